#include "manifest_target.hpp"

#include <weft/schema/checksum.hpp>
#include <weft/schema/manifest.hpp>

#include <stdexcept>
#include <vector>

namespace weft::fuzz {

namespace {

constexpr std::size_t header_bytes = 16;

bool read(std::span<const std::byte> bytes) {
  const auto read_once = schema::from_bytes(bytes);
  if (!read_once) return false;
  const auto written = schema::to_bytes(*read_once);
  if (!written) throw std::logic_error("an accepted manifest cannot be written");
  const auto read_again = schema::from_bytes(*written);
  if (!read_again || !(*read_again == *read_once)) throw std::logic_error("a manifest changes on its way");
  return true;
}

}  // namespace

bool read_as_manifest(std::span<const std::byte> bytes) {
  read(bytes);
  if (bytes.size() < header_bytes) return false;
  std::vector<std::byte> resealed(bytes.begin(), bytes.end());
  const auto sum = schema::checksum_of(std::span(resealed).subspan(header_bytes));
  for (unsigned i = 0; i < 8; ++i)
    resealed[8 + i] = static_cast<std::byte>(sum >> (8 * i));
  return read(resealed);
}

}  // namespace weft::fuzz
