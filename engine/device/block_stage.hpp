// Rows of blocks on their way to the mirrors of caches. What a layer has in the blocks is copied as it lies
// there, in two streams that take turns, each with memory of its own; and rotated and scattered on the
// device. Meanwhile the host fills its own caches, and a pass may compute earlier layers.
#pragma once

#include <weft/device/device.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/kernels/cuda/activation_work.hpp>
#include <weft/kernels/cuda/scatter_rows.hpp>
#include <weft/kernels/rope.hpp>

#include "../block_scatter.hpp"
#include "cache_mirror.hpp"
#include "device_kernels.hpp"
#include "staging.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace weft::engine {

// Where it fails, the mirrors that it was for go. That is no error of a load that filled the host's caches as
// well: the next pass uploads what is there. A pass that went on behind it (`precede`) fails.
class block_stage {
 public:
  static result<std::unique_ptr<block_stage>> make(std::shared_ptr<const compute_device> on);
  block_stage(std::shared_ptr<const compute_device> on, std::unique_ptr<device::stream> first,
              std::unique_ptr<device::stream> second);
  ~block_stage();

  // Whether rows come to this cache this way: not to one in a codec, nor where its mirror has no room.
  bool takes(const kv_cache& cache) const;
  // Whether rows may come to the device alone: all passes attend there.
  bool may_leave() const { return may_leave_; }
  void allow_leaving() { may_leave_ = true; }

  // The tables of the blocks whose rows come from now on: they stay as they are until `wait`.
  void rotate_by(std::span<const kernels::rotation_table> tables);

  // By KV head, how many of the cache's first rows the device has.
  static std::vector<std::uint32_t> rows_there(const kv_cache& cache, std::uint32_t layer);

  // Rows that were just placed in a layer of a cache that it takes, where `there` were there before. Their
  // sources and what the cache has besides stay as they are until `wait`. `alone`: the layer is not home from
  // then on. Any thread.
  void bring(kv_cache& cache, std::uint32_t layer, std::span<const std::uint32_t> there,
             const scatter_list& rows, bool alone);

  // The stream goes on behind all that was brought so far.
  void precede(device::stream& compute);

  // Until all of it is there. Where it fails, what was not home before is brought there if that can be, and
  // what was, is again, without the rows that came alone.
  result<void> wait();

 private:
  struct lane {
    lane(const std::shared_ptr<device::device>& memory, std::unique_ptr<device::stream> made)
        : stream(std::move(made)), lists(memory, *stream) {}

    std::unique_ptr<device::stream> stream;
    staging lists;
    growing_memory bytes;  // of one layer's sources
    bool ahead = false;    // of what `precede` was told
  };
  struct away_head {
    kv_cache* cache = nullptr;
    std::uint32_t layer = 0;
    std::uint32_t kv_head = 0;
  };
  // A piece of a block, here and there.
  struct staged_source {
    const std::byte* here = nullptr;
    const std::byte* there = nullptr;
  };

  result<void> bring_layer(lane& on, const kv_cache& cache, std::uint32_t layer,
                           std::span<const std::uint32_t> there, const scatter_list& rows);
  result<void> copy_sources(lane& on, std::span<const scatter_list::source_bytes> sources);
  void list_items(const cache_mirror& mirror, const scatter_list& rows);
  void list_labels(const cache_mirror& mirror, const kv_cache& cache, std::uint32_t layer,
                   std::span<const std::uint32_t> first_rows);
  static void upload_others(const cache_mirror& mirror, const kv_cache& cache, std::uint32_t layer,
                            std::span<const std::uint32_t> first_rows, const scatter_list& rows,
                            device::stream& stream);
  void leave(kv_cache& cache, std::uint32_t layer);
  void give_up();
  const float* rotations_of(const kernels::rotation_table* table) const;

  std::shared_ptr<const compute_device> on_;
  std::mutex mutex_;
  std::array<lane, 2> lanes_;
  std::size_t turn_ = 0;
  bool may_leave_ = false;
  std::vector<away_head> left_;    // since the last `wait`
  std::uint64_t alone_bytes_ = 0;  // that came alone since then
  std::vector<const kv_cache*> brought_to_;
  result<void> outcome_;

  std::span<const kernels::rotation_table> tables_;
  std::vector<std::size_t> table_starts_;  // floats
  growing_memory rotations_;
  const float* rotations_there_ = nullptr;

  std::vector<staged_source> sources_;  // by address
  std::vector<kernels::cuda::scatter_rows> items_;
  std::vector<std::uint16_t> entries_;
  std::vector<kernels::cuda::label_item> labels_;
  std::vector<std::int32_t> positions_, segments_;
};

}  // namespace weft::engine
