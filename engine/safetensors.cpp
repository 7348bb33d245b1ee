#include <weft/engine/safetensors.hpp>
