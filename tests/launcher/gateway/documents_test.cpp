#include <doctest/doctest.h>

#include "scripted_backend.hpp"

#include <algorithm>

using namespace weft;
using launcher::gateway::testing::running_gateway;

TEST_CASE("a document goes in, is listed, pinned, unpinned and dropped") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto added = cluster.ingest({"notes", "some text", "kvzip", 0.25});
  REQUIRE(added);
  CHECK(added->name == "notes");
  CHECK(added->tokens == 9);
  CHECK(added->holders == std::vector<std::string>{"storage-1", "storage-2"});
  CHECK(added->importance == "kvzip");
  CHECK(added->band_ratios == std::vector{0.25, 1.0});
  CHECK(added->ms == 2.5);
  CHECK(cluster.documents().value() == std::vector{*added});

  REQUIRE(cluster.pin(added->id));
  CHECK(cluster.documents().value().front().pinned);
  REQUIRE(cluster.unpin(added->id));
  CHECK(!cluster.documents().value().front().pinned);
  REQUIRE(cluster.drop(added->id));
  CHECK(cluster.documents().value().empty());
}

TEST_CASE("an unknown document is reported with the backend's code and words") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  for (const auto& r : {cluster.drop({1, 2}), cluster.pin({1, 2}), cluster.unpin({1, 2})}) {
    REQUIRE(!r);
    CHECK(r.error().code == errc::not_found);
    CHECK(r.error().context == "no document 00000000000000010000000000000002; `weft documents` lists them");
  }
}

TEST_CASE("any bytes are a text: broken UTF-8 and NUL arrive as they are") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const std::string text("\xff\xfe\0 \xc3(\xed\xa0\x80", 9);
  const std::string name("a\0b\xff", 4);
  const auto added = cluster.ingest({name, text, "", {}});
  REQUIRE(added);
  CHECK(added->name == name);
  CHECK(gateway.backend->text_of(added->id) == text);
}

TEST_CASE("10 MB and the largest text go through in chunks; a byte more is refused before it travels") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  for (const std::size_t size : {std::size_t{10'000'000}, schema::limits::text_bytes}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 997)
      text[i] = static_cast<char>(i);
    const auto added = cluster.ingest({"large", text, "", {}});
    REQUIRE(added);
    CHECK(gateway.backend->text_of(added->id) == text);
  }
  const auto refused = cluster.ingest({"huge", std::string(schema::limits::text_bytes + 1, 'x'), "", {}});
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().context ==
        "document 'huge' has 16777217 bytes, more than the 16777216 that are taken; split it into several");
}

TEST_CASE("an empty document is refused by name") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto refused = cluster.ingest({"empty.txt", "", "", {}});
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::invalid_argument);
  CHECK(refused.error().context == "document 'empty.txt' is empty; give it at least one byte of text");
}

TEST_CASE("progress reaches the caller's thread and ends before the call does") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const auto caller = std::this_thread::get_id();
  std::vector<std::uint64_t> seen;
  bool on_caller = true;
  const auto added = cluster.ingest({"notes", "text", "", {}}, [&](std::uint64_t done, std::uint64_t total) {
    CHECK(total == 10);
    on_caller = on_caller && std::this_thread::get_id() == caller;
    seen.push_back(done);
  });
  REQUIRE(added);
  CHECK(on_caller);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
}

TEST_CASE("uploads together are bounded") {
  launcher::gateway::server_options options;
  options.upload_bytes_max = 1000;
  running_gateway gateway(options);
  auto cluster = gateway.connect();
  CHECK(cluster.ingest({"fits", std::string(1000, 'x'), "", {}}));
  const auto refused = cluster.ingest({"does not", std::string(1001, 'x'), "", {}});
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::overloaded);
  CHECK(cluster.ingest({"fits again", std::string(1000, 'y'), "", {}}));
}
