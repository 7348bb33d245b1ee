// The real devices: with and without io_uring, with and without O_DIRECT.
#include <weft/tier/open.hpp>

#include <doctest/doctest.h>

#include "../launcher/temporary_folder.hpp"
#include "builders.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>

namespace weft::tier::test {
namespace {

using launcher::temporary_folder;
using machines::test::key_of;

constexpr std::uint64_t capacity = 4 << 20;

struct alignas(sector_bytes) page {
  sector bytes{};
};

// Counts what ended, on whatever thread.
class endings {
 public:
  device::done one() {
    return [this](errc outcome) {
      const std::lock_guard lock{mutex_};
      outcomes_.push_back(outcome);
      changed_.notify_all();
    };
  }
  std::vector<errc> wait_for(std::size_t count) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return outcomes_.size() >= count; });
    return std::exchange(outcomes_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<errc> outcomes_;
};

template <class Check>
void for_each_device(Check check) {
  for (const bool io_uring : {true, false}) {
    for (const bool direct : {true, false}) {
      const temporary_folder folder;
      check(folder, device_options{.io_uring = io_uring, .direct = direct});
    }
  }
}

}  // namespace

TEST_CASE("what is written is read, many operations at once") {
  for_each_device([](const temporary_folder& folder, device_options options) {
    auto opened = open_file_device(folder.path(), capacity, options);
    REQUIRE(opened);
    device& on = **opened;
    CAPTURE(on.description());
    constexpr std::size_t count = 200;
    std::vector<page> pages(count);
    for (std::size_t i = 0; i < count; ++i)
      pages[i].bytes.fill(static_cast<std::byte>(i));
    endings ended;
    for (std::size_t i = 0; i < count; ++i)
      on.write(area::data, (count - 1 - i) * sector_bytes, pages[i].bytes, ended.one());
    for (const errc outcome : ended.wait_for(count))
      CHECK(outcome == errc::ok);
    on.sync(ended.one());
    CHECK(ended.wait_for(1)[0] == errc::ok);

    std::vector<page> back(count);
    for (std::size_t i = 0; i < count; ++i)
      on.read(area::data, i * sector_bytes, back[i].bytes, ended.one());
    for (const errc outcome : ended.wait_for(count))
      CHECK(outcome == errc::ok);
    for (std::size_t i = 0; i < count; ++i)
      CHECK(back[i].bytes == pages[count - 1 - i].bytes);
  });
}

TEST_CASE("reading where nothing is fails") {
  for_each_device([](const temporary_folder& folder, device_options options) {
    auto opened = open_file_device(folder.path(), capacity, options);
    REQUIRE(opened);
    endings ended;
    const auto into = std::make_unique<page>();
    (*opened)->read(area::headers, 1 << 20, into->bytes, ended.one());
    CHECK(ended.wait_for(1)[0] == errc::io);
  });
}

TEST_CASE("a device that ends waits for what is under way") {
  for_each_device([](const temporary_folder& folder, device_options options) {
    endings ended;
    std::vector<page> pages(64);
    {
      auto opened = open_file_device(folder.path(), capacity, options);
      REQUIRE(opened);
      for (std::size_t i = 0; i < pages.size(); ++i)
        (*opened)->write(area::data, i * sector_bytes, pages[i].bytes, ended.one());
    }
    CHECK(ended.wait_for(pages.size()).size() == pages.size());
  });
}

TEST_CASE("a folder belongs to one process at a time") {
  const temporary_folder folder;
  auto first = open_file_device(folder.path(), capacity);
  REQUIRE(first);
  const auto second = open_file_device(folder.path(), capacity);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == errc::overloaded);
  first->reset();
  CHECK(open_file_device(folder.path(), capacity));
}

TEST_CASE("a folder that cannot be used is named") {
  const auto refused = open_file_device("/proc/none/here", capacity);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().context.find("/proc/none/here") != std::string::npos);
}

TEST_CASE("a tier keeps its id, and another file is not taken for one") {
  const temporary_folder folder;
  const auto fresh = [] { return id128{5, 6}; };
  {
    auto opened = open_file_device(folder.path(), capacity);
    REQUIRE(opened);
    CHECK(tier_id_of(**opened, fresh).value() == id128{5, 6});
  }
  {
    auto opened = open_file_device(folder.path(), capacity);
    REQUIRE(opened);
    CHECK(tier_id_of(**opened, [] { return id128{7, 8}; }).value() == id128{5, 6});
  }
  folder.write("headers.weft", std::string(2 * sector_bytes, 'x'));
  auto opened = open_file_device(folder.path(), capacity);
  REQUIRE(opened);
  CHECK(tier_id_of(**opened, fresh).error().code == errc::corrupt);
}

TEST_CASE("a scan finds every header of a large file") {
  const temporary_folder folder;
  constexpr std::uint64_t count = 1000;
  auto opened = open_file_device(folder.path(), capacity);
  REQUIRE(opened);
  const id128 tier = tier_id_of(**opened, [] { return id128{5, 6}; }).value();
  endings ended;
  std::vector<page> pages(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    store(pages[i].bytes, {.slot = i,
                           .tier = tier,
                           .key = key_of(i),
                           .sequence = i + 1,
                           .place = i * sector_bytes,
                           .bytes = 100});
    (*opened)->write(area::headers, header_offset(i), pages[i].bytes, ended.one());
  }
  ended.wait_for(count);
  opened->reset();

  auto again = open_file_device(folder.path(), capacity);
  REQUIRE(again);
  file_tier books({.capacity_bytes = capacity}, tier);
  recover(**again, books);
  CHECK(books.stats().recovered == count);
  CHECK(books.stats().corrupt == 0);
  CHECK(books.holds(key_of(count - 1)));
  CHECK(books.inconsistency() == "");
}

}  // namespace weft::tier::test
