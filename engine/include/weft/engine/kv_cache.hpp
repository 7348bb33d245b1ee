// The local KV cache of one session: per (layer, KV head) its own rows, ragged from the start.
//
// K rows are stored rotated to their position, V rows as they are, both in the cache dtype. A row's key was
// rounded to the cache dtype before rotation, whether it was computed here or came out of the pool, so both
// give the same bytes. A cache may keep its rows in a codec in place of the dtype: attention reads them as
// they are.
#pragma once

#include <weft/base/error.hpp>
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/row_codec.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

struct kv_shape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  kernels::dtype dtype = kernels::dtype::bf16;
  kernels::row_codec coding = kernels::row_codec::raw;

  // Of one row's K, or V, as it lies in memory.
  std::size_t row_bytes() const { return kernels::code_bytes(coding, dtype, head_dim); }
  std::size_t row_scales() const { return kernels::scales_per_row(coding, head_dim); }
};

// What is kept of a cache elsewhere, such as on a device; it goes with the cache.
class kv_mirror {
 public:
  virtual ~kv_mirror() = default;
  // What it has of these pieces of the cache's memory, into them.
  virtual result<void> bring(std::span<const std::span<std::byte>> pieces) = 0;
};

class kv_cache {
 public:
  // Room for `capacity_rows` rows in every (layer, KV head).
  kv_cache(const kv_shape& shape, std::uint32_t capacity_rows);
  // Each (layer, KV head) its own capacity, [layer][kv_head]: what is not kept takes no memory.
  kv_cache(const kv_shape& shape, std::span<const std::uint32_t> capacity_rows);
  // The same, in the dtype, behind rows that several caches share and none of them changes: everything below
  // is about the cache's own rows, what attends to it sees both. A position is in one of the two at most.
  kv_cache(std::shared_ptr<const kv_cache> base, std::span<const std::uint32_t> capacity_rows);
  // The same in the codec of `shape`, so that rows in several codecs are seen together: a cache for each,
  // one behind the other. A head may have room for no row.
  kv_cache(std::shared_ptr<const kv_cache> base, const kv_shape& shape,
           std::span<const std::uint32_t> capacity_rows);
  kv_cache(kv_cache&&) noexcept;
  kv_cache& operator=(kv_cache&&) noexcept;
  ~kv_cache();

  const kv_shape& shape() const;
  std::uint32_t capacity_rows() const;  // of the largest head
  std::uint32_t capacity_rows(std::uint32_t layer, std::uint32_t kv_head) const;
  std::uint32_t rows(std::uint32_t layer, std::uint32_t kv_head) const;
  std::size_t allocated_bytes() const;            // without the base
  std::size_t allocated_bytes_with_base() const;  // and with what that lies behind
  const kv_cache* base() const;                   // null where there is none

  // [row] of one (layer, KV head): head_dim elements or codes; scales ([row][row_scales]) of a cache that has
  // some; and each row's position in the prompt (ascending) and segment. Who writes rows asks for their
  // address each time between two forward passes: that is how a mirror learns of it (`changes`).
  std::byte* k(std::uint32_t layer, std::uint32_t kv_head);
  std::byte* v(std::uint32_t layer, std::uint32_t kv_head);
  std::uint16_t* k_scales(std::uint32_t layer, std::uint32_t kv_head);
  std::uint16_t* v_scales(std::uint32_t layer, std::uint32_t kv_head);
  std::int32_t* positions(std::uint32_t layer, std::uint32_t kv_head);
  std::int32_t* segments(std::uint32_t layer, std::uint32_t kv_head);
  const std::byte* k(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::byte* v(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::int32_t* positions(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::int32_t* segments(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::uint16_t* k_scales(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::uint16_t* v_scales(std::uint32_t layer, std::uint32_t kv_head) const;

  // All of its rows as attention takes them.
  kernels::kv_run run(std::uint32_t layer, std::uint32_t kv_head) const;

  // Rows that were written behind the current end become part of the cache.
  void set_rows(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t rows);

  // How often an address for writing in this (layer, KV head) was given away.
  std::uint64_t changes(std::uint32_t layer, std::uint32_t kv_head) const;
  // All of the lists above, for mirrors.
  std::span<const std::byte> memory() const;
  // Where keys and values lie, or would, for mirrors.
  const std::byte* k_place(std::uint32_t layer, std::uint32_t kv_head) const;
  const std::byte* v_place(std::uint32_t layer, std::uint32_t kv_head) const;
  // What was given to `keep_mirror` last, or null. One thread at a time, as with forward passes.
  kv_mirror* mirror() const;
  void keep_mirror(std::unique_ptr<kv_mirror> mirror) const;

  // Keys and values of a (layer, KV head), and those of rows to come, may lie in the mirror alone; all that
  // is here of them is where they would lie, and to ask for `k`, `v` or `run` is a mistake,
  // `std::logic_error`. What has no rows is home.
  bool is_home(std::uint32_t layer, std::uint32_t kv_head) const;
  bool is_home() const;
  void leave_away(std::uint32_t layer, std::uint32_t kv_head);
  // What is here counts again, whatever it is.
  void count_as_home(std::uint32_t layer, std::uint32_t kv_head);
  // Out of the mirror, as it came there. `internal` where that cannot be; rows that a mirror had alone go
  // with it (`is_lost`): the cache is of no use until it is truncated to none.
  result<void> bring_home() const;
  bool is_lost() const;

  // Forgets every row at `position` and later: the next question starts from the same documents.
  void truncate(std::int32_t position);

 private:
  void allocate(const kv_shape& shape, std::span<const std::uint32_t> capacity_rows);
  // For writing: counted.
  std::byte* opened(std::uint32_t layer, std::uint32_t kv_head, const void* address);

  struct state;
  std::unique_ptr<state> state_;
};

// The same for a cache and all that it stands behind.
result<void> bring_all_home(const kv_cache& cache);
bool any_lost(const kv_cache& cache);

}  // namespace weft::engine
