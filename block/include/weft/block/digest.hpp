// The hash behind every identity: SHA-256 over a sequence of typed fields, cut to 128 bits (docs/keys.md).
#pragma once

#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace weft::block {

// Takes the fields in order. Throws std::runtime_error when the crypto library gives no SHA-256.
class digest {
 public:
  // `tag` names the kind of what is hashed and is the first field.
  explicit digest(std::string_view tag);
  digest(digest&&) noexcept;
  digest& operator=(digest&&) noexcept;
  ~digest();

  digest& u8(std::uint8_t value);
  digest& u32(std::uint32_t value);
  digest& u64(std::uint64_t value);
  digest& f64(double value);
  digest& id(const id128& value);
  digest& text(std::string_view value);                  // u32 length, then the bytes
  digest& tokens(std::span<const std::int32_t> values);  // u64 count, then the ids
  digest& raw(std::span<const std::byte> bytes);         // without a length: only where one was given before

  // The first 128 bits. Ends the digest: nothing may be added behind it.
  id128 finish();

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::block
