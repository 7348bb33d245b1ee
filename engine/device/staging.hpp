// Short lists on their way to a device, such as what a kernel attends to: written to pinned memory one behind
// the other, copied together.
#pragma once

#include <weft/device/device.hpp>

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

// Memory is kept from pass to pass.
class staging {
 public:
  staging(std::shared_ptr<device::device> owner, device::stream& stream);

  // Where the values lie on the device once `flush` was called, aligned to 256 bytes, until `reset`. Where
  // there is no memory for them `flush` says so.
  template <class T>
  T* add(std::span<T> values) {
    return reinterpret_cast<T*>(add_bytes(std::as_bytes(values)));
  }
  result<void> flush();

  // The stream was waited for: nothing of it is needed any more.
  void reset();

 private:
  struct piece {
    device::memory pinned;
    device::memory there;
    std::size_t used_bytes = 0;
    std::size_t flushed_bytes = 0;
  };
  std::byte* add_bytes(std::span<const std::byte> bytes);
  piece* piece_for(std::size_t bytes);

  std::shared_ptr<device::device> owner_;
  device::stream& stream_;
  std::vector<piece> pieces_;
  result<void> failed_;
};

// Device memory that grows. What it was before goes on living until `settle`, since the stream may use it.
class growing_memory {
 public:
  // Uninitialised.
  result<std::byte*> reserve(device::device& owner, std::size_t bytes, std::string_view purpose);
  void settle() { outgrown_.clear(); }

 private:
  device::memory memory_;
  std::vector<device::memory> outgrown_;
};

}  // namespace weft::engine
