#include <weft/engine/prompt_format.hpp>
