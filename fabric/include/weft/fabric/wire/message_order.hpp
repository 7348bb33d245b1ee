// Puts one direction of a connection's messages back into the order they were sent in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

namespace weft::fabric {

class message_order {
 public:
  using deliver = std::function<void(std::uint16_t channel, std::span<const std::byte> payload)>;

  static constexpr std::size_t max_kept_messages = 1024;
  static constexpr std::size_t max_kept_bytes = std::size_t{64} << 20;

  // Delivers the message and those it was missing for, or keeps it. False: a sequence seen before, or more
  // kept than allowed; the peer does not follow the protocol.
  bool accept(std::uint64_t sequence, std::uint16_t channel, std::span<const std::byte> payload,
              const deliver& to);

  // Keeps everything until `open`, which delivers what has come.
  void hold() { held_ = true; }
  void open(const deliver& to);

 private:
  struct kept_message {
    std::uint16_t channel = 0;
    std::vector<std::byte> payload;
  };

  bool keep(std::uint64_t sequence, std::uint16_t channel, std::span<const std::byte> payload);
  void deliver_kept(const deliver& to);

  bool held_ = false;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, kept_message> kept_;
  std::size_t kept_bytes_ = 0;
};

}  // namespace weft::fabric
