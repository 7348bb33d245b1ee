// What the other side of every contract test does: owns a patterned arena, echoes, and fetches when asked.
#pragma once

#include <weft/fabric/transport.hpp>

#include "pattern.hpp"

#include <cstring>
#include <utility>
#include <vector>

namespace weft::fabric::testing {

inline constexpr std::uint16_t echo_channel = 1;
inline constexpr std::uint16_t echo_answer_channel = 2;
inline constexpr std::uint16_t fetch_back_channel = 3;         // payload: a fetch_range
inline constexpr std::uint16_t fetch_back_answer_channel = 4;  // the bytes, empty if the fetch failed

// `node` outlives its callbacks.
inline void play_peer(transport& node) {
  fill_with_pattern(node.arena());
  node.on_message(echo_channel, [&node](peer_id from, std::span<const std::byte> payload) {
    node.send(from, echo_answer_channel, {payload.begin(), payload.end()}, {});
  });
  node.on_message(fetch_back_channel, [&node](peer_id from, std::span<const std::byte> payload) {
    fetch_range wanted;
    if (payload.size() != sizeof wanted) return;
    std::memcpy(&wanted, payload.data(), sizeof wanted);
    node.fetch(from, {wanted}, std::chrono::seconds{20}, [&node, from, wanted](const fetch_report& report) {
      std::vector<std::byte> answer;
      if (report.outcome) {
        const auto bytes = node.arena().subspan(wanted.local_offset, wanted.length_bytes);
        answer.assign(bytes.begin(), bytes.end());
      }
      node.send(from, fetch_back_answer_channel, std::move(answer), {});
    });
  });
}

}  // namespace weft::fabric::testing
