// A peer's arena, and the probe area behind it, as this process reaches them.
#pragma once

#include "ucx/endpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace weft::fabric {

class ucx_remote_region {
 public:
  // Valid as long as the endpoint. `key` may be any bytes of at most `max_rkey_bytes`.
  static result<ucx_remote_region> make(const ucx_endpoint& endpoint, std::span<const std::byte> key,
                                        std::uint64_t base, std::uint64_t bytes);

  // Both in this process's address space, all of them; empty where they cannot be mapped.
  std::span<const std::byte> view() const { return view_; }

  // Keeps it there beyond this region; null where the system does not grant that.
  const std::shared_ptr<const void>& mapping() const { return mapping_; }

  // Maps the next pages of the view, so that reading them later costs no page fault. False: all are mapped.
  bool warm_up();

  std::uint64_t base() const { return base_; }
  std::uint64_t bytes() const { return bytes_; }
  ucp_rkey_h key() const { return key_.get(); }

 private:
  struct key_release {
    void operator()(ucp_rkey_h key) const { ucp_rkey_destroy(key); }
  };
  using key_pointer = std::unique_ptr<std::remove_pointer_t<ucp_rkey_h>, key_release>;

  ucx_remote_region(key_pointer key, std::uint64_t base, std::uint64_t bytes);

  key_pointer key_;
  std::uint64_t base_ = 0;
  std::uint64_t bytes_ = 0;
  std::span<const std::byte> view_;
  std::shared_ptr<const void> mapping_;
  std::uint64_t warm_bytes_ = 0;
};

// "shm", "rdma" or "tcp": what data moves over, from a region and the text of `lanes`.
std::string transport_name(bool mapped, const std::string& lanes);

}  // namespace weft::fabric
