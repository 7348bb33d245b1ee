#include <weft/engine/kv_cache.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t alignment_bytes = 64;

constexpr std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
}

kv_shape decoded(kv_shape shape) {
  shape.coding = kernels::row_codec::raw;
  return shape;
}

}  // namespace

// One allocation: per (layer, KV head) the K rows, the V rows, the positions, the segments and the scales of
// K and V, each from a 64-byte boundary on.
struct kv_cache::state {
  struct head {
    std::size_t offset = 0;  // of its memory
    std::uint32_t capacity_rows = 0;
    std::uint32_t rows = 0;
    std::uint64_t changes = 0;
    bool away = false;
  };

  kv_shape shape;
  kernels::aligned_buffer memory;
  std::vector<head> heads;  // [layer][kv_head]
  std::shared_ptr<const kv_cache> base;
  std::unique_ptr<kv_mirror> mirror;
  bool some_away = false;  // since it was last looked up

  // Of K, and of V; of the positions, and of the segments.
  std::size_t rows_bytes(std::uint32_t rows) const { return aligned(rows * shape.row_bytes()); }
  std::size_t scales_bytes(std::uint32_t rows) const {
    return aligned(rows * shape.row_scales() * sizeof(std::uint16_t));
  }
  static std::size_t ids_bytes(std::uint32_t rows) {
    return aligned(std::size_t{rows} * sizeof(std::int32_t));
  }
  head& at(std::uint32_t layer, std::uint32_t kv_head) {
    return heads[std::size_t{layer} * shape.kv_heads + kv_head];
  }
  std::byte* first_byte(std::uint32_t layer, std::uint32_t kv_head) {
    return memory.data() + at(layer, kv_head).offset;
  }
  std::byte* second_list(std::uint32_t layer, std::uint32_t kv_head) {
    const head& of = at(layer, kv_head);
    return memory.data() + of.offset + rows_bytes(of.capacity_rows);
  }
  void check_home(std::uint32_t layer, std::uint32_t kv_head) {
    if (at(layer, kv_head).away)
      throw std::logic_error("keys and values that only a device has were asked for");
  }
};

kv_cache::kv_cache(const kv_shape& shape, std::uint32_t capacity_rows)
    : kv_cache(shape, std::vector<std::uint32_t>(std::size_t{shape.layers} * shape.kv_heads, capacity_rows)) {
}

kv_cache::kv_cache(const kv_shape& shape, std::span<const std::uint32_t> capacity_rows)
    : state_(std::make_unique<state>()) {
  if (std::ranges::find(capacity_rows, 0U) != capacity_rows.end())
    throw std::invalid_argument("a KV cache needs room for one row in each head");
  allocate(shape, capacity_rows);
}

void kv_cache::allocate(const kv_shape& shape, std::span<const std::uint32_t> capacity_rows) {
  if (shape.layers == 0 || shape.kv_heads == 0 || shape.head_dim == 0 ||
      capacity_rows.size() != std::size_t{shape.layers} * shape.kv_heads)
    throw std::invalid_argument("a KV cache needs layers, heads, a head dimension and room in each head");
  state_->shape = shape;
  std::size_t bytes = 0;
  for (const std::uint32_t rows : capacity_rows) {
    state_->heads.push_back({.offset = bytes, .capacity_rows = rows});
    bytes += 2 * (state_->rows_bytes(rows) + state::ids_bytes(rows) + state_->scales_bytes(rows));
  }
  state_->memory = kernels::aligned_buffer(bytes);
}

kv_cache::kv_cache(std::shared_ptr<const kv_cache> base, std::span<const std::uint32_t> capacity_rows)
    : kv_cache(decoded(base->shape()), capacity_rows) {
  state_->base = std::move(base);
}

kv_cache::kv_cache(std::shared_ptr<const kv_cache> base, const kv_shape& shape,
                   std::span<const std::uint32_t> capacity_rows)
    : state_(std::make_unique<state>()) {
  allocate(shape, capacity_rows);
  state_->base = std::move(base);
}

kv_cache::kv_cache(kv_cache&&) noexcept = default;
kv_cache& kv_cache::operator=(kv_cache&&) noexcept = default;
kv_cache::~kv_cache() = default;

const kv_shape& kv_cache::shape() const {
  return state_->shape;
}

std::uint32_t kv_cache::capacity_rows() const {
  return std::ranges::max(state_->heads, {}, &state::head::capacity_rows).capacity_rows;
}

std::uint32_t kv_cache::capacity_rows(std::uint32_t layer, std::uint32_t kv_head) const {
  return state_->at(layer, kv_head).capacity_rows;
}

std::uint32_t kv_cache::rows(std::uint32_t layer, std::uint32_t kv_head) const {
  return state_->at(layer, kv_head).rows;
}

std::size_t kv_cache::allocated_bytes() const {
  return state_->memory.size_bytes() + state_->heads.capacity() * sizeof(state::head);
}

std::size_t kv_cache::allocated_bytes_with_base() const {
  return allocated_bytes() + (state_->base ? state_->base->allocated_bytes_with_base() : 0);
}

const kv_cache* kv_cache::base() const {
  return state_->base.get();
}

const std::byte* kv_cache::k_place(std::uint32_t layer, std::uint32_t kv_head) const {
  return state_->first_byte(layer, kv_head);
}

const std::byte* kv_cache::v_place(std::uint32_t layer, std::uint32_t kv_head) const {
  return state_->second_list(layer, kv_head);
}

const std::byte* kv_cache::k(std::uint32_t layer, std::uint32_t kv_head) const {
  state_->check_home(layer, kv_head);
  return k_place(layer, kv_head);
}

const std::byte* kv_cache::v(std::uint32_t layer, std::uint32_t kv_head) const {
  state_->check_home(layer, kv_head);
  return v_place(layer, kv_head);
}

const std::int32_t* kv_cache::positions(std::uint32_t layer, std::uint32_t kv_head) const {
  return reinterpret_cast<const std::int32_t*>(k_place(layer, kv_head) +
                                               2 * state_->rows_bytes(capacity_rows(layer, kv_head)));
}

const std::int32_t* kv_cache::segments(std::uint32_t layer, std::uint32_t kv_head) const {
  const std::uint32_t capacity = capacity_rows(layer, kv_head);
  return reinterpret_cast<const std::int32_t*>(k_place(layer, kv_head) + 2 * state_->rows_bytes(capacity) +
                                               state::ids_bytes(capacity));
}

const std::uint16_t* kv_cache::k_scales(std::uint32_t layer, std::uint32_t kv_head) const {
  const std::uint32_t capacity = capacity_rows(layer, kv_head);
  return reinterpret_cast<const std::uint16_t*>(k_place(layer, kv_head) + 2 * state_->rows_bytes(capacity) +
                                                2 * state::ids_bytes(capacity));
}

const std::uint16_t* kv_cache::v_scales(std::uint32_t layer, std::uint32_t kv_head) const {
  return k_scales(layer, kv_head) +
         state_->scales_bytes(capacity_rows(layer, kv_head)) / sizeof(std::uint16_t);
}

// The lists are the cache's own; a constant cache only shows them. Threads may write rows of one head
// together.
std::byte* kv_cache::opened(std::uint32_t layer, std::uint32_t kv_head, const void* address) {
  std::atomic_ref(state_->at(layer, kv_head).changes).fetch_add(1, std::memory_order_relaxed);
  return static_cast<std::byte*>(const_cast<void*>(address));
}

std::byte* kv_cache::k(std::uint32_t layer, std::uint32_t kv_head) {
  return opened(layer, kv_head, std::as_const(*this).k(layer, kv_head));
}

std::byte* kv_cache::v(std::uint32_t layer, std::uint32_t kv_head) {
  return opened(layer, kv_head, std::as_const(*this).v(layer, kv_head));
}

std::int32_t* kv_cache::positions(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::int32_t*>(
      opened(layer, kv_head, std::as_const(*this).positions(layer, kv_head)));
}

std::int32_t* kv_cache::segments(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::int32_t*>(
      opened(layer, kv_head, std::as_const(*this).segments(layer, kv_head)));
}

std::uint16_t* kv_cache::k_scales(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::uint16_t*>(
      opened(layer, kv_head, std::as_const(*this).k_scales(layer, kv_head)));
}

std::uint16_t* kv_cache::v_scales(std::uint32_t layer, std::uint32_t kv_head) {
  return reinterpret_cast<std::uint16_t*>(
      opened(layer, kv_head, std::as_const(*this).v_scales(layer, kv_head)));
}

std::uint64_t kv_cache::changes(std::uint32_t layer, std::uint32_t kv_head) const {
  return std::atomic_ref(state_->at(layer, kv_head).changes).load(std::memory_order_relaxed);
}

std::span<const std::byte> kv_cache::memory() const {
  return {state_->memory.data(), state_->memory.size_bytes()};
}

kv_mirror* kv_cache::mirror() const {
  return state_->mirror.get();
}

void kv_cache::keep_mirror(std::unique_ptr<kv_mirror> mirror) const {
  state_->mirror = std::move(mirror);
}

bool kv_cache::is_home(std::uint32_t layer, std::uint32_t kv_head) const {
  return !state_->at(layer, kv_head).away;
}

bool kv_cache::is_home() const {
  return !state_->some_away || std::ranges::none_of(state_->heads, &state::head::away);
}

void kv_cache::leave_away(std::uint32_t layer, std::uint32_t kv_head) {
  if (rows(layer, kv_head) == 0) return;
  if (state_->shape.coding != kernels::row_codec::raw || !state_->mirror)
    throw std::logic_error("rows are left with a mirror that there is, and raw");
  state_->at(layer, kv_head).away = true;
  state_->some_away = true;
}

void kv_cache::count_as_home(std::uint32_t layer, std::uint32_t kv_head) {
  state_->at(layer, kv_head).away = false;
}

bool kv_cache::is_lost() const {
  return !state_->mirror && !is_home();
}

result<void> kv_cache::bring_home() const {
  if (is_home()) return {};
  if (!state_->mirror)
    return fail(errc::internal,
                "rows of documents lay on a device alone and are lost with it; load the documents again");
  std::vector<std::span<std::byte>> pieces;
  for (std::uint32_t layer = 0; layer < state_->shape.layers; ++layer)
    for (std::uint32_t head = 0; head < state_->shape.kv_heads; ++head) {
      if (is_home(layer, head)) continue;
      const std::size_t bytes = rows(layer, head) * state_->shape.row_bytes();
      pieces.emplace_back(state_->first_byte(layer, head), bytes);
      pieces.emplace_back(state_->second_list(layer, head), bytes);
    }
  if (auto brought = state_->mirror->bring(pieces); !brought) return brought;
  for (state::head& head : state_->heads)
    head.away = false;
  state_->some_away = false;
  return {};
}

result<void> bring_all_home(const kv_cache& cache) {
  for (const kv_cache* part = &cache; part != nullptr; part = part->base())
    if (auto brought = part->bring_home(); !brought) return brought;
  return {};
}

bool any_lost(const kv_cache& cache) {
  for (const kv_cache* part = &cache; part != nullptr; part = part->base())
    if (part->is_lost()) return true;
  return false;
}

kernels::kv_run kv_cache::run(std::uint32_t layer, std::uint32_t kv_head) const {
  return {.k = k(layer, kv_head),
          .v = v(layer, kv_head),
          .rows = rows(layer, kv_head),
          .coding = state_->shape.coding,
          .k_scales = k_scales(layer, kv_head),
          .v_scales = v_scales(layer, kv_head)};
}

void kv_cache::set_rows(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t rows) {
  if (rows > capacity_rows(layer, kv_head))
    throw std::out_of_range("more rows than the KV cache has room for");
  state_->at(layer, kv_head).rows = rows;
  if (rows == 0) state_->at(layer, kv_head).away = false;
}

void kv_cache::truncate(std::int32_t position) {
  for (std::uint32_t layer = 0; layer < state_->shape.layers; ++layer)
    for (std::uint32_t head = 0; head < state_->shape.kv_heads; ++head) {
      const std::int32_t* first = std::as_const(*this).positions(layer, head);
      const std::int32_t* last = first + rows(layer, head);
      set_rows(layer, head, static_cast<std::uint32_t>(std::lower_bound(first, last, position) - first));
    }
}

}  // namespace weft::engine
