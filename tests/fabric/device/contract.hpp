// What any device does.
#pragma once

#include <weft/device/device.hpp>
#include <weft/device/recording.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace weft::device::test {

template <class T>
T value_of(result<T> made) {
  REQUIRE_MESSAGE(made.has_value(), made.error().context);
  return std::move(*made);
}

// Bytes come back as they were sent, in the order that a stream was given them.
inline void check_copies(device& d) {
  const auto stream = value_of(d.make_stream());
  const auto there = value_of(d.allocate(1000, "bytes of a test"));
  const auto pinned = value_of(d.allocate_pinned(1000, "bytes of a test"));
  REQUIRE(there.size_bytes() == 1000);
  std::vector<std::byte> back(1000), other(10, std::byte{7});
  for (std::size_t i = 0; i < 1000; ++i)
    pinned.data()[i] = static_cast<std::byte>(i % 251);
  stream->upload(there.data(), pinned.data(), 1000);
  stream->upload(there.data() + 100, other.data(), other.size());
  stream->download(back.data(), there.data(), 1000);
  REQUIRE(stream->wait());
  CHECK(std::equal(back.begin(), back.begin() + 100, pinned.data()));
  CHECK(std::all_of(back.begin() + 100, back.begin() + 110, [](std::byte b) { return b == std::byte{7}; }));
  CHECK(std::equal(back.begin() + 110, back.end(), pinned.data() + 110));
  stream->copy(there.data() + 500, there.data() + 90, 30);
  stream->download(back.data(), there.data() + 500, 30);
  REQUIRE(stream->wait());
  CHECK(std::equal(back.begin(), back.begin() + 10, pinned.data() + 90));
  CHECK(std::all_of(back.begin() + 10, back.begin() + 20, [](std::byte b) { return b == std::byte{7}; }));
  CHECK(std::equal(back.begin() + 20, back.begin() + 30, pinned.data() + 110));
}

// One stream goes on behind another, which nobody waits for.
inline void check_order(device& d) {
  const auto first = value_of(d.make_stream());
  const auto second = value_of(d.make_stream());
  const auto there = value_of(d.allocate(1000, "bytes of a test"));
  const std::vector<std::byte> sent(1000, std::byte{3}), later(1000, std::byte{4});
  std::vector<std::byte> back(1000);
  first->upload(there.data(), sent.data(), sent.size());
  second->after(*first);
  second->download(back.data(), there.data(), back.size());
  REQUIRE(second->wait());
  CHECK(back == sent);
  first->upload(there.data(), later.data(), later.size());
  REQUIRE(first->wait());
  second->after(*first);
  REQUIRE(second->wait());
}

inline void check_memory(device& d) {
  const auto whole = d.sizes();
  CHECK(whole.free_bytes <= whole.total_bytes);
  CHECK(value_of(d.allocate(0, "nothing")).data() == nullptr);
  const auto refused = d.allocate(std::numeric_limits<std::size_t>::max() / 4, "the rows of a test");
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::out_of_space);
  for (const std::string& part : {std::string("the rows of a test need "), d.name(), std::string("are free")})
    CHECK_MESSAGE(refused.error().context.find(part) != std::string::npos, refused.error().context);
  CHECK(d.allocate(16, "bytes of a test"));
}

inline recording_stream& recorder(stream& s) {
  return dynamic_cast<recording_stream&>(s);
}

// A recording holds no copy, no waiting and no memory that is taken; the stream goes on behind one that
// failed.
inline void check_recordings(device& d) {
  const auto stream = value_of(d.make_stream());
  auto there = value_of(d.allocate(16, "bytes of a test"));
  std::byte here[16] = {};
  const auto refused = [&](const auto& give) {
    recorder(*stream).begin_recording();
    give();
    const auto recorded = recorder(*stream).end_recording();
    return !recorded && recorded.error().code == errc::internal;
  };
  CHECK(refused([&] { stream->upload(there.data(), here, 16); }));
  CHECK(refused([&] { stream->download(here, there.data(), 16); }));
  CHECK(refused([&] { stream->copy(there.data(), there.data() + 8, 8); }));
  CHECK(refused([&] { CHECK(!stream->wait()); }));
  CHECK(refused([&] { CHECK(!d.allocate(16, "bytes of a test")); }));
  auto given_back = value_of(d.allocate(16, "bytes of a test"));
  CHECK(refused([&] { given_back = memory(); }));
  CHECK(stream->wait());
  recorder(*stream).begin_recording();
  const auto empty = value_of(recorder(*stream).end_recording());
  recorder(*stream).launch(*empty);
  stream->upload(there.data(), here, 16);
  CHECK(stream->wait());
  CHECK(d.allocate(16, "bytes of a test"));
}

}  // namespace weft::device::test
