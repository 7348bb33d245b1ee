#include <weft/device/host_device.hpp>

#include "contract.hpp"

#include <cmath>
#include <cstring>

using namespace weft::device;
using namespace weft::device::test;

namespace {

constexpr std::size_t some_bytes = 4096;

}  // namespace

TEST_CASE("copies arrive in order") {
  check_copies(*host_device::make(some_bytes));
}

TEST_CASE("a stream goes on behind another") {
  check_order(*host_device::make(some_bytes));
}

TEST_CASE("a stream that goes on behind one that fails, fails") {
  const auto d = host_device::make(some_bytes);
  const auto first = value_of(d->make_stream());
  const auto second = value_of(d->make_stream());
  bool done = false;
  run_on_host(*first, [](const host_device&) { throw std::runtime_error("a kernel fails"); });
  second->after(*first);
  run_on_host(*second, [&](const host_device&) { done = true; });
  run_on_host(*first, [&](const host_device&) { FAIL("behind what failed"); });
  const auto outcome = second->wait();
  REQUIRE(!outcome);
  CHECK(outcome.error().context.find("a kernel fails") != std::string::npos);
  CHECK(!done);
  CHECK(!first->wait());
  second->after(*first);
  CHECK(second->wait());
}

TEST_CASE("work is counted, and fails where it is told to") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  const auto there = value_of(d->allocate(64, "bytes of a test"));
  std::byte here[64] = {};
  const auto three = [&] {
    stream->upload(there.data(), here, 64);
    run_on_host(*stream, [](const host_device&) {});
    stream->download(here, there.data(), 8);
    return stream->wait().has_value();
  };
  CHECK(three());
  const auto counts = d->counts();
  CHECK(counts.uploads == 1);
  CHECK(counts.upload_bytes == 64);
  CHECK(counts.downloads == 1);
  CHECK(counts.download_bytes == 8);
  CHECK(counts.kernels == 1);
  CHECK(counts.waits == 1);
  CHECK(counts.works() == 3);
  d->fail_at(4, failing::once);
  CHECK(three());
  CHECK(!three());
  CHECK(three());
  d->fail_at(0, failing::from_then_on);
  CHECK(!three());
  CHECK(!three());
  d->fail_no_more();
  CHECK(three());
}

TEST_CASE("memory that is not there is refused with what is free") {
  check_memory(*host_device::make(some_bytes));
}

TEST_CASE("a recording holds kernels alone") {
  const auto d = host_device::make(some_bytes);
  check_recordings(*d);
  const auto stream = value_of(d->make_stream());
  recorder(*stream).begin_recording();
  value_of(d->make_stream());
  { const auto other = host_device::make(some_bytes); }
  REQUIRE(recorder(*stream).end_recording());
  auto given_back = value_of(d->allocate(16, "bytes of a test"));
  recorder(*stream).begin_recording();
  given_back = memory();
  const auto refused = recorder(*stream).end_recording();
  REQUIRE(!refused);
  CHECK(refused.error().context.find("memory that is given back") != std::string::npos);
}

TEST_CASE("a recording runs again over what its memory holds by then") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  std::unique_ptr<recording> kept;
  {
    const auto there = value_of(d->allocate(4, "a number"));
    auto* const number = reinterpret_cast<std::int32_t*>(there.data());
    int runs = 0;
    recorder(*stream).begin_recording();
    run_on_host(*stream, [number, &runs](const host_device& device) {
      *device.at(number) *= 2;
      ++runs;
    });
    kept = value_of(recorder(*stream).end_recording());
    CHECK(stream->wait());
    CHECK(runs == 0);
    for (const std::int32_t value : {3, 5}) {
      std::int32_t back = 0;
      stream->upload(there.data(), &value, sizeof value);
      recorder(*stream).launch(*kept);
      recorder(*stream).launch(*kept);
      stream->download(&back, there.data(), sizeof back);
      REQUIRE(stream->wait());
      CHECK(back == 4 * value);
    }
    CHECK(runs == 4);
  }
  recorder(*stream).launch(*kept);  // its memory is gone
  const auto outcome = stream->wait();
  REQUIRE(!outcome);
  CHECK(outcome.error().context.find("no memory of the device") != std::string::npos);
}

TEST_CASE("memory is free again once its owner is gone") {
  const auto d = host_device::make(some_bytes);
  {
    const auto all = value_of(d->allocate(some_bytes, "everything"));
    CHECK(d->sizes().free_bytes == 0);
    CHECK(!d->allocate(1, "one byte more"));
    auto moved = value_of(d->allocate_pinned(1, "of the host"));
    moved = memory();
  }
  CHECK(d->sizes().free_bytes == some_bytes);
}

TEST_CASE("nothing is done before it must, and then in order") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  const auto there = value_of(d->allocate(4, "a float"));
  float value = 1.0F;
  float back = 0.0F;
  stream->upload(there.data(), &value, sizeof value);
  stream->download(&back, there.data(), sizeof back);
  value = 2.0F;  // as a program must not
  CHECK(back == 0.0F);
  REQUIRE(stream->wait());
  CHECK(back == 2.0F);
}

TEST_CASE("memory that nobody wrote is not a number") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  const auto there = value_of(d->allocate(4, "a float"));
  float back = 0.0F;
  stream->download(&back, there.data(), sizeof back);
  REQUIRE(stream->wait());
  CHECK(std::isnan(back));
}

TEST_CASE("one side's address is not the other's") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  const auto there = value_of(d->allocate(64, "bytes of a test"));
  std::byte here[64] = {};
  const auto refused = [&](const auto& give) {
    give();
    const auto outcome = stream->wait();
    return !outcome && outcome.error().code == weft::errc::internal;
  };
  CHECK(refused([&] { stream->upload(here, here, 1); }));
  CHECK(refused([&] { stream->upload(there.data(), there.data(), 1); }));
  CHECK(refused([&] { stream->download(there.data(), there.data(), 1); }));
  CHECK(refused([&] { stream->download(here, here, 1); }));
  CHECK(refused([&] { stream->download(here, there.data() + 1, 64); }));
  CHECK(refused([&] { stream->download(here, there.data() + 65, 1); }));
  const std::byte* gone = nullptr;
  {
    const auto released = value_of(d->allocate(64, "bytes of a test"));
    gone = released.data();
  }
  CHECK(refused([&] { stream->download(here, gone, 1); }));
  stream->download(here, there.data(), 64);
  CHECK(stream->wait());
}

TEST_CASE("a kernel reads no address that is not aligned to what lies there") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  const auto there = value_of(d->allocate(64, "bytes of a test"));
  const auto refused = [&](auto* address, auto... alignment) {
    run_on_host(*stream, [=](const host_device& device) { device.at(address, 1, alignment...); });
    return !stream->wait();
  };
  CHECK(!refused(there.data() + 1));
  CHECK(refused(reinterpret_cast<float*>(there.data() + 2)));
  CHECK(!refused(reinterpret_cast<float*>(there.data() + 4)));
  CHECK(refused(there.data() + 8, 16U));
  CHECK(!refused(there.data() + 16, 16U));
}

TEST_CASE("what fails in a stream is told once, and nothing is done behind it") {
  const auto d = host_device::make(some_bytes);
  const auto stream = value_of(d->make_stream());
  bool done = false;
  run_on_host(*stream, [](const host_device&) { throw std::runtime_error("a kernel fails"); });
  run_on_host(*stream, [&](const host_device&) { done = true; });
  const auto outcome = stream->wait();
  REQUIRE(!outcome);
  CHECK(outcome.error().context.find("a kernel fails") != std::string::npos);
  CHECK(!done);
  CHECK(stream->wait());
  run_on_host(*stream, [&](const host_device& device) {
    done = true;
    CHECK(device.sizes().total_bytes == some_bytes);
  });
  CHECK(stream->wait());
  CHECK(done);
}
