#include <weft/engine/model_config.hpp>
