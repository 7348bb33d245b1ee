#include <weft/device/device.hpp>

namespace weft::device {

namespace {

std::string mebibytes(std::size_t bytes) {
  constexpr std::size_t mebibyte = std::size_t{1} << 20U;
  return std::to_string((bytes + mebibyte - 1) / mebibyte) + " MiB";
}

}  // namespace

memory::~memory() {
  if (data_ != nullptr) owner_->release(where_, data_);
}

void memory::swap(memory& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(where_, other.where_);
}

result<memory> device::allocate(std::size_t bytes, std::string_view purpose) {
  return make(place::device, bytes, purpose);
}

result<memory> device::allocate_pinned(std::size_t bytes, std::string_view purpose) {
  return make(place::pinned, bytes, purpose);
}

result<memory> device::make(place where, std::size_t bytes, std::string_view purpose) {
  memory made;
  if (bytes == 0) return made;
  made.data_ = take(where, bytes);
  if (made.data_ == nullptr) {
    std::string context = std::string(purpose) + " need " + mebibytes(bytes);
    if (where == place::device) {
      const memory_size size = sizes();
      context += " of device memory, and " + mebibytes(size.free_bytes) + " of " +
                 mebibytes(size.total_bytes) + " are free on " + name() +
                 "; ask with fewer documents or sessions, or take another device";
    } else {
      context += " of pinned memory for " + name() + ", and the host has none left";
    }
    return fail(errc::out_of_space, std::move(context));
  }
  made.owner_ = shared_from_this();
  made.size_bytes_ = bytes;
  made.where_ = where;
  return made;
}

}  // namespace weft::device
