// How much control traffic leaves this process: every message of ours that is serialised for another one is
// counted.
//
// CAF's serialisers carry nothing of ours, so the counts are the process's, the one exception to "no global
// state": they only ever grow and decide nothing.
#pragma once

#include <weft/actors/messages.hpp>

#include <caf/detail/serialized_size.hpp>
#include <caf/serializer.hpp>

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace weft::actors {

class mailbox_meter {
 public:
  static mailbox_meter& of_process() {
    static mailbox_meter meter;
    return meter;
  }

  void note(std::uint64_t bytes) {
    messages_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
    auto largest = largest_bytes_.load(std::memory_order_relaxed);
    while (largest < bytes &&
           !largest_bytes_.compare_exchange_weak(largest, bytes, std::memory_order_relaxed)) {
    }
  }

  std::uint64_t messages() const { return messages_.load(std::memory_order_relaxed); }
  std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  std::uint64_t largest_bytes() const { return largest_bytes_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::uint64_t> largest_bytes_{0};
};

// Called with a whole message on its way out; for every other inspector, measuring ones included, it does
// nothing.
template <class Inspector, class Message>
void meter(Inspector& f, Message& message) {
  if constexpr (std::is_same_v<Inspector, caf::serializer>) {
    if (!f.context() || dynamic_cast<caf::detail::serialized_size_inspector*>(&f)) return;
    mailbox_meter::of_process().note(caf::detail::serialized_size(f.context()->system(), message));
  }
}

}  // namespace weft::actors
