#include "cache_mirror.hpp"

#include "device_kernels.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

rows_away& rows_away_of(const compute_device& on) {
  return on.kernels->away;
}

result<cache_mirror*> cache_mirror::of(const kv_cache& cache,
                                       const std::shared_ptr<const compute_device>& on) {
  auto* const known = dynamic_cast<cache_mirror*>(cache.mirror());
  if (known != nullptr && known->on_->memory == on->memory) return known;
  if (auto home = cache.bring_home(); !home) return tl::unexpected(home.error());
  auto memory =
      on->memory->allocate(std::max<std::size_t>(cache.memory().size(), 1), "the rows of a session");
  if (!memory) return tl::unexpected(memory.error());
  auto made = std::make_unique<cache_mirror>(cache, on, std::move(*memory));
  auto* const mirror = made.get();
  cache.keep_mirror(std::move(made));
  return mirror;
}

cache_mirror::cache_mirror(const kv_cache& cache, std::shared_ptr<const compute_device> on,
                           device::memory memory)
    : host_(cache.memory().data()),
      on_(std::move(on)),
      memory_(std::move(memory)),
      heads_(std::size_t{cache.shape().layers} * cache.shape().kv_heads) {}

result<void> cache_mirror::bring(std::span<const std::span<std::byte>> pieces) {
  auto stream = on_->memory->make_stream();
  if (!stream) return tl::unexpected(stream.error());
  std::size_t bytes = 0;
  for (const auto& piece : pieces) {
    (*stream)->download(piece.data(), at(piece.data()), piece.size());
    bytes += piece.size();
  }
  if (auto done = (*stream)->wait(); !done) return done;
  rows_away_of(*on_).brought_bytes += bytes;
  return {};
}

bool cache_mirror::is_current(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head) const {
  const head& there = heads_[std::size_t{layer} * cache.shape().kv_heads + kv_head];
  return there.changes == cache.changes(layer, kv_head) && there.rows >= cache.rows(layer, kv_head);
}

void cache_mirror::update(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                          device::stream& stream) {
  if (is_current(cache, layer, kv_head)) return;
  const head& there = at(cache, layer, kv_head);
  const std::uint32_t first = there.changes == cache.changes(layer, kv_head) ? there.rows : 0;
  upload(cache, layer, kv_head, first, cache.rows(layer, kv_head) - first, stream);
  accept(cache, layer, kv_head);
}

void cache_mirror::upload(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                          std::uint32_t first_row, std::uint32_t rows, device::stream& stream) const {
  if (rows == 0) return;
  const auto copy = [&](const auto* list, std::size_t per_row) {
    const auto* const from = list + first_row * per_row;
    stream.upload(reinterpret_cast<std::byte*>(at(from)), from, rows * per_row * sizeof *list);
  };
  const kv_shape& shape = cache.shape();
  if (cache.is_home(layer, kv_head)) {
    copy(cache.k(layer, kv_head), shape.row_bytes());
    copy(cache.v(layer, kv_head), shape.row_bytes());
  }
  copy(cache.positions(layer, kv_head), 1);
  copy(cache.segments(layer, kv_head), 1);
  if (shape.row_scales() == 0) return;
  copy(cache.k_scales(layer, kv_head), shape.row_scales());
  copy(cache.v_scales(layer, kv_head), shape.row_scales());
}

void cache_mirror::upload_kv(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                             std::uint32_t first_row, std::uint32_t rows, device::stream& stream) const {
  const std::size_t row_bytes = cache.shape().row_bytes();
  for (const std::byte* const list : {cache.k(layer, kv_head), cache.v(layer, kv_head)}) {
    const std::byte* const from = list + first_row * row_bytes;
    stream.upload(at(from), from, rows * row_bytes);
  }
}

void cache_mirror::accept(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head) {
  at(cache, layer, kv_head) = {cache.changes(layer, kv_head), cache.rows(layer, kv_head)};
}

cache_mirror& mirror_of(const kv_cache& cache) {
  return dynamic_cast<cache_mirror&>(*cache.mirror());
}

}  // namespace weft::engine
