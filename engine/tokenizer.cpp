#include <weft/engine/tokenizer.hpp>
