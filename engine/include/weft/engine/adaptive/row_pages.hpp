// Decode memory in pages of a few rows, shared by all heads of all sessions: what a head gives up, any other
// takes. Only a head's last page is not full, so that nothing is lost to fragmentation.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/attention_decode.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Memory comes and goes in slabs of pages. Not for several threads.
class row_page_pool {
 public:
  explicit row_page_pool(const kv_shape& shape, std::uint32_t page_rows = 16);

  const kv_shape& shape() const { return shape_; }
  std::uint32_t page_rows() const { return page_rows_; }
  std::size_t row_bytes() const { return row_bytes_; }  // of K, and of V

  std::uint32_t take();
  void give_back(std::uint32_t page);
  // [page_rows][head_dim]
  std::byte* k(std::uint32_t page);
  std::byte* v(std::uint32_t page) { return k(page) + page_rows_ * row_bytes_; }

  std::size_t used_bytes() const { return used_pages_ * page_bytes(); }
  std::size_t allocated_bytes() const;

 private:
  static constexpr std::uint32_t slab_pages = 64;
  struct slab {
    kernels::aligned_buffer memory;
    std::vector<std::uint32_t> free;  // pages, the next one last
  };

  std::size_t page_bytes() const { return std::size_t{2} * page_rows_ * row_bytes_; }

  kv_shape shape_;
  std::uint32_t page_rows_;
  std::size_t row_bytes_;
  std::vector<slab> slabs_;
  std::size_t used_pages_ = 0;
};

// The rows of one (layer, KV head) in slots 0, 1, 2, ...
class paged_rows {
 public:
  explicit paged_rows(row_page_pool& pool) : pool_(&pool) {}
  paged_rows(paged_rows&& other) noexcept;
  paged_rows& operator=(paged_rows&&) = delete;
  ~paged_rows();

  std::uint32_t rows() const { return static_cast<std::uint32_t>(tokens_.size()); }
  std::span<const std::uint32_t> tokens() const { return tokens_; }
  void append(std::uint32_t token, const std::byte* k, const std::byte* v);
  // The last row takes the slot.
  void remove(std::uint32_t slot);
  const std::byte* k(std::uint32_t slot) const;
  const std::byte* v(std::uint32_t slot) const;

  // All rows, or those in some slots (ascending).
  void add_runs(std::vector<kernels::kv_run>& runs) const;
  void add_runs(std::span<const std::uint32_t> slots, std::vector<kernels::kv_run>& runs) const;

 private:
  row_page_pool* pool_;
  std::vector<std::uint32_t> pages_;
  std::vector<std::uint32_t> tokens_;  // by slot
};

}  // namespace weft::engine
