#include "group_sums.hpp"

#include <weft/device/recording.hpp>

#include <algorithm>
#include <cstring>
#include <string>

namespace weft::engine {

namespace {

std::size_t first_column(std::uint32_t width, unsigned rank, unsigned ranks) {
  return static_cast<std::size_t>(std::uint64_t{width} * rank / ranks);
}

}  // namespace

result<void> group_sums::sum(std::span<float> values) {
  if (alone()) return {};
  return group_->all_reduce(values);
}

result<void> group_sums::launch(device::recording_stream& stream, const device::recording& recorded) {
  if (sums_on_devices()) return devices_->launch(stream, recorded);
  stream.launch(recorded);
  return {};
}

result<void> group_sums::wait_for(device::stream& stream) {
  return sums_on_devices() ? devices_->wait_for(stream) : stream.wait();
}

std::span<float> group_sums::part(std::size_t rows, std::size_t columns, std::size_t width) {
  if (parts_.size() < rows * width) parts_.resize(rows * width);
  const std::size_t first =
      rows * first_column(static_cast<std::uint32_t>(width), group_->rank(), group_->size());
  return std::span(parts_).subspan(first, rows * columns);
}

result<void> group_sums::gather(std::size_t rows, std::uint32_t width, std::span<float> out) {
  const unsigned ranks = group_->size();
  part_bytes_.clear();
  for (unsigned r = 0; r < ranks; ++r)
    part_bytes_.push_back((first_column(width, r + 1, ranks) - first_column(width, r, ranks)) * rows *
                          sizeof(float));
  const auto parts = std::span(parts_).first(rows * width);
  if (auto gathered = group_->all_gather(std::as_writable_bytes(parts), part_bytes_); !gathered)
    return gathered;
  for (unsigned r = 0; r < ranks; ++r) {
    const std::size_t first = first_column(width, r, ranks);
    const std::size_t columns = first_column(width, r + 1, ranks) - first;
    for (std::size_t row = 0; row < rows; ++row)
      std::copy_n(parts.data() + first * rows + row * columns, columns, out.data() + row * width + first);
  }
  return {};
}

tl::unexpected<error> group_sums::ended(const error& why) {
  if (!alone() && devices_ != nullptr) devices_->leave(why);
  return tl::unexpected(why);
}

result<std::span<const float>> group_sums::said(float own) {
  said_.assign(alone() ? 1 : group_->size(), 0.0F);
  said_[alone() ? 0 : group_->rank()] = own;
  if (auto exchanged = sum(said_); !exchanged) return tl::unexpected(exchanged.error());
  return said_;
}

result<void> group_sums::agreed(result<void> own) {
  if (alone()) return own;
  const auto codes = said(own ? 0.0F : static_cast<float>(own.error().code));
  if (!own) return own;
  if (!codes) return tl::unexpected(codes.error());
  const auto refused = std::ranges::find_if(*codes, [](float code) { return code != 0.0F; });
  if (refused == codes->end()) return {};
  const auto code = static_cast<errc>(static_cast<std::uint8_t>(*refused));
  return fail(code, "rank " + std::to_string(refused - codes->begin()) + " of the group could not go on (" +
                        std::string{name_of(code)} + "); it says why");
}

}  // namespace weft::engine
