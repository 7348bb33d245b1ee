// Memory of a caller's own, beside the arena, that a transport may write what it fetches to
// (`transport::land`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::fabric {

enum class memory_kind : std::uint8_t {
  host,
  cuda,  // of a CUDA device
};

// Registered while it lives, and while fetches into it are on their way. May be dropped on any thread, and
// after its transport.
class registered_memory {
 public:
  registered_memory(const registered_memory&) = delete;
  registered_memory& operator=(const registered_memory&) = delete;
  virtual ~registered_memory() = default;

  std::span<std::byte> bytes() const { return bytes_; }
  memory_kind kind() const { return kind_; }

 protected:
  registered_memory(std::span<std::byte> bytes, memory_kind kind) : bytes_(bytes), kind_(kind) {}

 private:
  std::span<std::byte> bytes_;
  memory_kind kind_;
};

}  // namespace weft::fabric
