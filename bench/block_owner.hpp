// The other process of `run_fabric`: owns blocks and serves them by every way that is measured.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/block_verifier.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

namespace weft::bench {

// Blocks of `block_bytes`, at least 4 KiB and a multiple of it, stand one after the other.
block::expectation expectation_of(std::size_t block_bytes, std::size_t index);
block::identity identity_of(std::size_t block_bytes, std::size_t index);

// Handle of the process; its destructor ends it.
class block_owner {
 public:
  // Forks. The calling process must have no other thread.
  static result<block_owner> start(const std::string& transport, std::size_t arena_bytes);
  block_owner(block_owner&& other) noexcept;
  block_owner& operator=(block_owner&& other) = delete;
  ~block_owner();

  const std::string& transport() const { return transport_; }
  // `fabric::transport::connect` takes it, `raw_ucx::connect` and a port on 127.0.0.1 that streams.
  const std::string& fabric_address() const { return fabric_address_; }
  const std::string& raw_address() const { return raw_address_; }
  std::uint16_t stream_port() const { return stream_port_; }

  // Waits for its beginnings; to be called once before everything else.
  result<void> await_ready();
  // Gives it the address of this side's `raw_ucx`.
  result<void> connect_raw(const std::string& address);
  result<void> fill(std::size_t block_bytes);
  // Blocks of this shape with all their rows, some noise, from each multiple of `stride_bytes` on; their
  // identities are those of blocks of `stride_bytes`.
  result<void> fill_rows(const block::shape& shape, std::size_t stride_bytes, std::size_t count);
  // Puts the first `bytes` of its memory on file in a folder that is there.
  result<void> store(const std::filesystem::path& folder, std::uint64_t bytes);
  // Brings the sectors with bytes [at, at + length_bytes) of each of `count` pieces from file back to memory.
  result<void> recall(std::uint64_t at, std::uint64_t length_bytes, std::size_t stride_bytes,
                      std::size_t count);
  // Begins to send `count` pieces from offset `at`: through the stream, or raw active messages.
  result<void> begin_stream(std::uint64_t at, std::size_t piece_bytes, std::size_t count);
  result<void> begin_raw_send(std::uint64_t at, std::size_t piece_bytes, std::size_t count);
  // Until what was begun is done on its side; `meanwhile`, if any, is called over and over.
  result<void> await_done(const std::function<void()>& meanwhile = {});

 private:
  block_owner(std::string transport, pid_t process, int control)
      : transport_(std::move(transport)), process_(process), control_(control) {}

  std::string transport_;
  pid_t process_ = -1;
  int control_ = -1;
  std::string fabric_address_;
  std::string raw_address_;
  std::uint16_t stream_port_ = 0;
};

}  // namespace weft::bench
