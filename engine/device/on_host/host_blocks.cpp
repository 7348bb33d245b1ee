#include "host_blocks.hpp"

#include "cuda/checksum_body.hpp"
#include "cuda/fill_parts_body.hpp"
#include "cuda/row_encoding_body.hpp"
#include "cuda/row_selection_body.hpp"
#include "host_arguments.hpp"
#include "reference/host_warp.hpp"

#include <algorithm>
#include <stdexcept>

namespace weft::engine {

using namespace kernels::cuda;
using device::host_device;
using kernels::dtype;
using kernels::reference::host_warp;

namespace {

template <class Elements>
void encode_item(const rows_to_encode& item, std::uint32_t head_dim) {
  for (std::uint32_t row = 0; row < item.count; ++row)
    for (std::uint32_t scale = 0; scale < scales_of_row(item.coding, head_dim); ++scale)
      encode_scale<Elements>(item, row, scale, head_dim);
}

}  // namespace

void fill(const host_device& on, const filled_part* items, std::uint32_t count) {
  const filled_part* const described = on.at(items, count);
  for (std::uint32_t i = 0; i < count; ++i) {
    filled_part item = described[i];
    item.numbers = on.at(item.numbers, item.count);
    item.to = on.at(item.to, item.count * sizeof(std::uint16_t) + item.zero_bytes,
                    item.count > 0 ? alignof(std::uint16_t) : 1);
    fill_part(host_warp(), item);
  }
}

void gather(const host_device& on, const band_rows* items, std::uint32_t count, std::uint32_t row_bytes) {
  const band_rows* const described = on.at(items, count);
  for (std::uint32_t i = 0; i < count; ++i) {
    band_rows item = described[i];
    item.bands = on.at(item.bands, item.rows);
    const auto found = static_cast<std::size_t>(std::count(item.bands, item.bands + item.rows, item.band));
    const std::size_t rows_bytes = span_of(item.rows, item.row_stride_bytes, row_bytes);
    const std::size_t moved = row_bytes % 16 == 0 ? 16 : row_bytes % 4 == 0 ? 4 : 2;
    if (item.row_stride_bytes % moved != 0) throw std::invalid_argument("rows that are not moved whole");
    item.k = on.at(item.k, rows_bytes, moved);
    item.v = on.at(item.v, rows_bytes, moved);
    item.k_out = on.at(item.k_out, found * row_bytes, moved);
    item.v_out = on.at(item.v_out, found * row_bytes, moved);
    if (item.positions != nullptr) item.positions = on.at(item.positions, found);
    if (row_bytes % 16 == 0)
      gather_rows_of_band<16>(host_warp(), item, row_bytes);
    else if (row_bytes % 4 == 0)
      gather_rows_of_band<4>(host_warp(), item, row_bytes);
    else
      gather_rows_of_band<2>(host_warp(), item, row_bytes);
  }
}

void encode(const host_device& on, const rows_to_encode* items, std::uint32_t count, std::uint32_t most_rows,
            std::uint32_t head_dim, dtype type) {
  const rows_to_encode* const described = on.at(items, count);
  for (std::uint32_t i = 0; i < count; ++i) {
    rows_to_encode item = described[i];
    if (item.count > most_rows) throw std::invalid_argument("an item has more rows than was said");
    item.indices = on.at(item.indices, item.count);
    const std::size_t last = item.count == 0 ? 0 : *std::max_element(item.indices, item.indices + item.count);
    item.rows = on.at(item.rows, span_of(last + 1, item.row_stride, head_dim) * kernels::size_bytes(type),
                      kernels::size_bytes(type));
    item.codes = on.at(item.codes, item.count * kernels::code_bytes(item.coding, type, head_dim));
    item.scales = on.at(item.scales, item.count * kernels::scales_per_row(item.coding, head_dim));
    for_elements(type, [&]<class Elements>() { encode_item<Elements>(item, head_dim); });
  }
}

void sum_parts(const host_device& on, const checked_part* parts, std::uint32_t count, std::uint64_t* out) {
  const checked_part* const described = on.at(parts, count);
  std::uint64_t* const sums = on.at(out, count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto* const words = reinterpret_cast<const std::uint64_t*>(described[i].data);
    sums[i] = checksum_of(host_warp(), on.at(words, described[i].words), described[i].words);
  }
}

}  // namespace weft::engine
