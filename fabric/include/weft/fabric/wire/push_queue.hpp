// The owner's end of pushed fetches of one connection: what is still to be sent, request by request in turn,
// so that a small fetch does not wait for a large one.
#pragma once

#include <weft/fabric/wire/active_message.hpp>
#include <weft/fabric/wire/chunk_plan.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

namespace weft::fabric {

class push_queue {
 public:
  static constexpr std::size_t max_waiting = 4096;

  // Takes a peer's request as it came, or says why not.
  tl::expected<void, refusal> accept(const fetch_request_header& header, std::span<const std::byte> payload,
                                     std::uint64_t arena_bytes);
  void cancel(std::uint64_t operation);
  bool empty() const { return jobs_.empty(); }

  // The next chunk: where it lies in the arena if in one piece, else gathered into `staging`.
  struct chunk {
    fetch_data_header header;
    std::span<const std::byte> bytes;
  };
  // Precondition: not empty().
  chunk next(std::span<const std::byte> arena, std::vector<std::byte>& staging);

 private:
  struct job {
    std::uint64_t operation = 0;
    std::vector<wire_range> ranges;
    chunk_plan plan;
    std::uint32_t next_chunk = 0;
  };

  std::deque<job> jobs_;
};

}  // namespace weft::fabric
