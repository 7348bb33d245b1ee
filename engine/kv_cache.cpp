#include <weft/engine/kv_cache.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <algorithm>
#include <stdexcept>

namespace weft::engine {

namespace {

constexpr std::size_t alignment_bytes = 64;

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
}

}  // namespace

// One allocation: per (layer, KV head) the K rows, the V rows, the positions and the segments, each from a
// 64-byte boundary on.
struct kv_cache::state {
  kv_shape shape;
  std::uint32_t capacity_rows = 0;
  std::size_t rows_bytes = 0;  // of K, and of V
  std::size_t ids_bytes = 0;   // of the positions, and of the segments
  kernels::aligned_buffer memory;
  std::vector<std::uint32_t> rows;  // [layer][kv_head]

  std::size_t head_bytes() const { return 2 * (rows_bytes + ids_bytes); }
  std::size_t index(std::uint32_t layer, std::uint32_t kv_head) const {
    return std::size_t{layer} * shape.kv_heads + kv_head;
  }
  std::byte* head(std::uint32_t layer, std::uint32_t kv_head) {
    return memory.data() + index(layer, kv_head) * head_bytes();
  }
};

kv_cache::kv_cache(const kv_shape& shape, std::uint32_t capacity_rows) : state_(std::make_unique<state>()) {
  if (shape.layers == 0 || shape.kv_heads == 0 || shape.head_dim == 0 || capacity_rows == 0)
    throw std::invalid_argument("a KV cache needs layers, heads, a head dimension and room for one row");
  state_->shape = shape;
  state_->capacity_rows = capacity_rows;
  state_->rows_bytes =
      aligned(std::size_t{capacity_rows} * shape.head_dim * kernels::size_bytes(shape.dtype));
  state_->ids_bytes = aligned(std::size_t{capacity_rows} * sizeof(std::int32_t));
  const std::size_t heads = std::size_t{shape.layers} * shape.kv_heads;
  state_->memory = kernels::aligned_buffer(heads * state_->head_bytes());
  state_->rows.assign(heads, 0);
}

kv_cache::kv_cache(kv_cache&&) noexcept = default;
kv_cache& kv_cache::operator=(kv_cache&&) noexcept = default;
kv_cache::~kv_cache() = default;

const kv_shape& kv_cache::shape() const {
  return state_->shape;
}

std::uint32_t kv_cache::capacity_rows() const {
  return state_->capacity_rows;
}

std::uint32_t kv_cache::rows(std::uint32_t layer, std::uint32_t kv_head) const {
  return state_->rows[state_->index(layer, kv_head)];
}

std::size_t kv_cache::allocated_bytes() const {
  return state_->memory.size_bytes() + state_->rows.capacity() * sizeof(std::uint32_t);
}

std::byte* kv_cache::k(std::uint32_t layer, std::uint32_t kv_head) {
  return state_->head(layer, kv_head);
}

std::byte* kv_cache::v(std::uint32_t layer, std::uint32_t kv_head) {
  return state_->head(layer, kv_head) + state_->rows_bytes;
}

std::int32_t* kv_cache::positions(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::int32_t*>(state_->head(layer, kv_head) + 2 * state_->rows_bytes);
}

std::int32_t* kv_cache::segments(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::int32_t*>(state_->head(layer, kv_head) + 2 * state_->rows_bytes +
                                         state_->ids_bytes);
}

void kv_cache::set_rows(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t rows) {
  if (rows > state_->capacity_rows) throw std::out_of_range("more rows than the KV cache has room for");
  state_->rows[state_->index(layer, kv_head)] = rows;
}

void kv_cache::truncate(std::int32_t position) {
  for (std::uint32_t layer = 0; layer < state_->shape.layers; ++layer)
    for (std::uint32_t head = 0; head < state_->shape.kv_heads; ++head) {
      const std::int32_t* first = positions(layer, head);
      const std::int32_t* last = first + rows(layer, head);
      set_rows(layer, head, static_cast<std::uint32_t>(std::lower_bound(first, last, position) - first));
    }
}

}  // namespace weft::engine
