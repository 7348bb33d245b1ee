// Orders as bytes, for the ranks of one group: one program, one byte order.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace weft::actors {

template <class T>
concept plain_field = std::is_arithmetic_v<T> || std::is_enum_v<T>;

// `fields(coder, order)` names an order's fields to either of these two, in one order.
class order_writer {
 public:
  template <class... Fields>
  void operator()(const Fields&... all) {
    (put(all), ...);
  }

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  template <plain_field T>
  void put(const T& value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  template <class T>
  void put(const std::vector<T>& list) {
    put(list.size());
    for (const T& one : list)
      put(one);
  }
  template <class T>
  requires(!plain_field<T>) void put(const T& group) { fields(*this, group); }

  std::vector<std::byte> bytes_;
};

class order_reader {
 public:
  explicit order_reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class... Fields>
  void operator()(Fields&... all) {
    (take(all), ...);
  }

  // `corrupt` where there was less than was read, or more.
  result<void> end() const {
    if (whole_ && bytes_.empty()) return {};
    return fail(errc::corrupt, "an order to the ranks of a group has another length than its fields");
  }

 private:
  template <plain_field T>
  void take(T& value) {
    if (bytes_.size() < sizeof(T)) {
      whole_ = false;
      bytes_ = {};
      return;
    }
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
  }
  template <class T>
  void take(std::vector<T>& list) {
    std::size_t count = 0;
    take(count);
    if (count > bytes_.size()) {  // every element takes one byte at least
      whole_ = false;
      bytes_ = {};
      return;
    }
    list.resize(count);
    for (T& one : list)
      take(one);
  }
  template <class T>
  requires(!plain_field<T>) void take(T& group) { fields(*this, group); }

  std::span<const std::byte> bytes_;
  bool whole_ = true;
};

}  // namespace weft::actors
