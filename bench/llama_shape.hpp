// The shape of Llama-3.2-1B.
#pragma once

#include <weft/engine/model_config.hpp>

#include <cstdint>

namespace weft::bench {

inline constexpr std::uint32_t llama_3_2_1b_layers = 16;

engine::model_config llama_3_2_1b();

}  // namespace weft::bench
