// Proves a block whose bytes arrive in pieces, from the first to the last, reading each once.
#pragma once

#include <weft/block/layout.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::block {

// What a block must prove to be. What is left out may be anything.
struct expectation {
  id128 key = {};
  bool any_fingerprint = false;
  id128 fingerprint = {};
  bool any_life = false;  // of the block: generation and incarnation
  std::uint64_t generation = 0;
  std::uint64_t incarnation = 0;
};

// Used for one block after the other it allocates nothing, but where a header or its tables are larger than
// any before.
class block_verifier {
 public:
  block_verifier();
  block_verifier(block_verifier&&) noexcept;
  block_verifier& operator=(block_verifier&&) noexcept;
  ~block_verifier();

  // A new block begins.
  void restart();
  void append(std::span<const std::byte> piece);

  // `whole` holds all the bytes that were appended. Says what `verify` says of them, with `expected` in place
  // of a whole identity; only counts and positions are read once more.
  result<void> finish(std::span<const std::byte> whole, const expectation& expected);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::block
