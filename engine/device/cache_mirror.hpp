// A cache's rows on a device: each list lies as far from the beginning as in the cache.
#pragma once

#include <weft/device/device.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/kv_cache.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

class cache_mirror final : public kv_mirror {
 public:
  // The cache's mirror on this device, made where there is none. `out_of_space` if there is no memory for it,
  // `internal` if rows that only another one had cannot be brought home.
  static result<cache_mirror*> of(const kv_cache& cache, const std::shared_ptr<const compute_device>& on);

  cache_mirror(const kv_cache& cache, std::shared_ptr<const compute_device> on, device::memory memory);
  // Nothing is on its way to it.
  result<void> bring(std::span<const std::span<std::byte>> pieces) override;

  // Whether the device has all rows that the (layer, KV head) has on the host.
  bool is_current(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head) const;
  // Uploads what it has not: rows behind those that it has, or all of them where the host's may have changed.
  void update(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head, device::stream& stream);
  // Uploads these rows; where keys and values lie there alone, what else there is of them.
  void upload(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head, std::uint32_t first_row,
              std::uint32_t rows, device::stream& stream) const;
  // Of a raw cache their keys and values alone.
  void upload_kv(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head, std::uint32_t first_row,
                 std::uint32_t rows, device::stream& stream) const;
  // The device has, or will have had by what is in its stream, what the host has now.
  void accept(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head);

  // Where on the device lies what is here in the cache's memory.
  template <class T>
  T* at(const T* on_host) const {
    const auto offset = reinterpret_cast<const std::byte*>(on_host) - host_;
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

 private:
  struct head {
    std::uint64_t changes = 0;  // of the cache, when these rows were brought
    std::uint32_t rows = 0;
  };
  head& at(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head) {
    return heads_[std::size_t{layer} * cache.shape().kv_heads + kv_head];
  }

  const std::byte* host_;
  std::shared_ptr<const compute_device> on_;
  device::memory memory_;
  std::vector<head> heads_;  // [layer][kv_head]
};

// The one that `of` made.
cache_mirror& mirror_of(const kv_cache& cache);

}  // namespace weft::engine
