// The part of a node's arena in which blocks stand on their way in or out: room that is given back by itself.
#pragma once

#include <weft/base/error.hpp>
#include <weft/machines/arena_allocator.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

namespace weft::actors {

class staging;

// Bytes of the staging area; move-only, given back at destruction, on any thread.
class staged_bytes {
 public:
  staged_bytes() = default;
  staged_bytes(std::shared_ptr<staging> owner, machines::arena_allocator::place place, std::uint64_t offset,
               std::uint64_t bytes);
  staged_bytes(staged_bytes&& other) noexcept;
  staged_bytes& operator=(staged_bytes&& other) noexcept;
  ~staged_bytes();

  std::span<std::byte> bytes() const;
  std::uint64_t arena_offset() const { return offset_; }  // from the arena's beginning: what peers are told
  std::uint64_t size_bytes() const { return bytes_; }
  explicit operator bool() const { return owner_ != nullptr; }

 private:
  std::shared_ptr<staging> owner_;
  machines::arena_allocator::place place_{};
  std::uint64_t offset_ = 0;
  std::uint64_t bytes_ = 0;
};

// Thread-safe. The first `capacity_bytes` of the arena, in whole units of 4 KiB; pieces start on one.
class staging : public std::enable_shared_from_this<staging> {
 public:
  // `arena` must outlive the staging area and everything taken from it.
  staging(std::span<std::byte> arena, std::uint64_t capacity_bytes);

  // `out_of_space` when nothing that large is free now; `invalid_argument` when it never can be.
  result<staged_bytes> take(std::uint64_t bytes);

  std::uint64_t capacity_bytes() const { return places_.capacity_bytes(); }
  std::uint64_t used_bytes() const;

 private:
  friend class staged_bytes;
  void give_back(machines::arena_allocator::place place);

  std::span<std::byte> arena_;
  mutable std::mutex mutex_;
  machines::arena_allocator places_;
};

}  // namespace weft::actors
