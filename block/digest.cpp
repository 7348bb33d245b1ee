#include <weft/block/digest.hpp>

#include <openssl/evp.h>

#include <array>
#include <bit>
#include <stdexcept>

namespace weft::block {

static_assert(std::endian::native == std::endian::little, "fields are hashed as they lie in memory");

namespace {

struct context_deleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

std::uint64_t load_big_endian(const unsigned char* bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i)
    value = value << 8 | bytes[i];
  return value;
}

std::array<std::byte, 16> big_endian(const id128& id) {
  std::array<std::byte, 16> bytes;
  for (unsigned i = 0; i < 8; ++i) {
    bytes[i] = static_cast<std::byte>(id.high >> (56 - 8 * i));
    bytes[8 + i] = static_cast<std::byte>(id.low >> (56 - 8 * i));
  }
  return bytes;
}

}  // namespace

struct digest::state {
  std::unique_ptr<EVP_MD_CTX, context_deleter> context{EVP_MD_CTX_new()};

  void update(const void* data, std::size_t bytes) {
    if (EVP_DigestUpdate(context.get(), data, bytes) != 1)
      throw std::runtime_error("SHA-256 of the crypto library failed");
  }
};

digest::digest(std::string_view tag) : state_(std::make_unique<state>()) {
  if (!state_->context || EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("the crypto library offers no SHA-256");
  text(tag);
}

digest::digest(digest&&) noexcept = default;
digest& digest::operator=(digest&&) noexcept = default;
digest::~digest() = default;

digest& digest::u8(std::uint8_t value) {
  state_->update(&value, sizeof value);
  return *this;
}

digest& digest::u32(std::uint32_t value) {
  state_->update(&value, sizeof value);
  return *this;
}

digest& digest::u64(std::uint64_t value) {
  state_->update(&value, sizeof value);
  return *this;
}

digest& digest::f64(double value) {
  return u64(std::bit_cast<std::uint64_t>(value));
}

digest& digest::id(const id128& value) {
  return raw(big_endian(value));
}

digest& digest::text(std::string_view value) {
  return u32(static_cast<std::uint32_t>(value.size())).raw(std::as_bytes(std::span{value}));
}

digest& digest::tokens(std::span<const std::int32_t> values) {
  return u64(values.size()).raw(std::as_bytes(values));
}

digest& digest::raw(std::span<const std::byte> bytes) {
  state_->update(bytes.data(), bytes.size());
  return *this;
}

id128 digest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  if (EVP_DigestFinal_ex(state_->context.get(), bytes.data(), nullptr) != 1)
    throw std::runtime_error("SHA-256 of the crypto library failed");
  return {load_big_endian(bytes.data()), load_big_endian(bytes.data() + 8)};
}

}  // namespace weft::block
