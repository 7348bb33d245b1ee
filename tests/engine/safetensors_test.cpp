#include <weft/engine/safetensors.hpp>

#include <doctest/doctest.h>

#include "golden_texts.hpp"
#include "temporary_folder.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>

using weft::engine::tensor_files;
using weft::engine::tensor_to_write;
using weft::engine::write_safetensors;
using weft::test::temporary_folder;

namespace {

std::string with_length(const std::string& header, const std::string& data) {
  std::string file(8, '\0');
  for (std::size_t i = 0; i < 8; ++i)
    file[i] = static_cast<char>(header.size() >> (8 * i));
  return file + header + data;
}

weft::result<tensor_files> open_bytes(const std::string& file) {
  const temporary_folder folder;
  folder.write("model.safetensors", file);
  return tensor_files::open(folder.path());
}

void corrupt(const std::string& file, const std::string& part) {
  const auto opened = open_bytes(file);
  CAPTURE(part);
  REQUIRE(!opened);
  CAPTURE(opened.error().context);
  CHECK(opened.error().code == weft::errc::corrupt);
  CHECK(opened.error().context.find("model.safetensors") != std::string::npos);
  CHECK(opened.error().context.find(part) != std::string::npos);
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}";
}

std::string file_of(const std::string& entries, std::size_t data_bytes) {
  return with_length("{" + entries + "}", std::string(data_bytes, 'x'));
}

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("what is written is read back, aligned") {
  const temporary_folder folder;
  const std::vector<float> wide{1.5F, -2.0F, 3.25F};
  const std::vector<std::uint16_t> narrow{0x3f80, 0xbf80};
  const std::vector<std::uint8_t> bytes{1, 0, 1};
  const std::vector<tensor_to_write> tensors{
      {"kept", "U8", {3}, std::as_bytes(std::span(bytes))},
      {"narrow", "BF16", {1, 2}, std::as_bytes(std::span(narrow))},
      {"wide", "F32", {3}, std::as_bytes(std::span(wide))},
      {"none", "F32", {0, 7}, {}},
  };
  REQUIRE(write_safetensors(folder.path() / "model.safetensors", tensors));
  const auto opened = tensor_files::open(folder.path());
  REQUIRE_MESSAGE(opened.has_value(), opened.error().context);
  const auto* found = opened->find("wide");
  REQUIRE(found != nullptr);
  CHECK(found->dtype == weft::kernels::dtype::f32);
  CHECK(found->shape == std::vector<std::uint64_t>{3});
  CHECK(reinterpret_cast<std::uintptr_t>(found->bytes.data()) % 4 == 0);
  CHECK(std::ranges::equal(found->bytes, std::as_bytes(std::span(wide))));
  CHECK(opened->find("narrow")->shape == std::vector<std::uint64_t>{1, 2});
  CHECK(opened->find("none")->bytes.empty());
  CHECK(opened->find("kept") == nullptr);
  CHECK(opened->find("wid") == nullptr);
}

TEST_CASE("tensors that lie unaligned in the file are handed out aligned") {
  const auto opened = open_bytes(
      with_length("{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "F32", "[1]", "[1,5]") + "}",
                  std::string("x\0\0\x80\x3f", 5)));
  REQUIRE_MESSAGE(opened.has_value(), opened.error().context);
  const auto* b = opened->find("b");
  REQUIRE(reinterpret_cast<std::uintptr_t>(b->bytes.data()) % 4 == 0);
  float value = 0;
  std::memcpy(&value, b->bytes.data(), 4);
  CHECK(value == 1.0F);
}

TEST_CASE("contradicting tensors are not written") {
  const temporary_folder folder;
  const std::vector<float> values(3);
  const auto bytes = std::as_bytes(std::span(values));
  const auto refused = [&](std::vector<tensor_to_write> tensors) {
    const auto written = write_safetensors(folder.path() / "x.safetensors", tensors);
    REQUIRE(!written);
    CHECK(written.error().code == weft::errc::invalid_argument);
  };
  refused({{"a", "F32", {4}, bytes}});
  refused({{"a", "F31", {3}, bytes}});
  refused({{"a", "F32", {3}, bytes}, {"a", "F32", {3}, bytes}});
  const std::vector<tensor_to_write> good{{"a", "F32", {3}, bytes}};
  const auto nowhere = write_safetensors(folder.path() / "no" / "x.safetensors", good);
  REQUIRE(!nowhere);
  CHECK(nowhere.error().code == weft::errc::io);
}

TEST_CASE("files that lie are refused with the reason") {
  corrupt("", "empty");
  corrupt("1234567", "too short");
  corrupt(std::string(8, '\xff') + "{}", "header claims");
  corrupt(with_length("{}", "").substr(0, 9), "header claims");
  corrupt(with_length("{\"a\":", ""), "JSON");
  corrupt(with_length("[]", ""), "JSON");
  corrupt(with_length("{}", "x"), "belong to no tensor");
  corrupt(file_of("\"a\":1", 0), "no object");
  corrupt(file_of(entry("a", "F31", "[1]", "[0,4]"), 4), "F31");
  corrupt(file_of(entry("a", "F32", "[2]", "[0,4]"), 4), "contradicts");
  corrupt(file_of(entry("a", "F32", "[1]", "[0,8]"), 4), "ends at byte 8 of 4");
  corrupt(file_of(entry("a", "F32", "[1]", "[4,0]"), 4), "before it begins");
  corrupt(file_of(entry("a", "F32", "[-1]", "[0,4]"), 4), "shape");
  corrupt(file_of(entry("a", "F32", "[1.5]", "[0,4]"), 4), "shape");
  corrupt(file_of(entry("a", "F32", "[1]", "[0]"), 4), "data_offsets");
  corrupt(file_of(entry("a", "F32", "[4611686018427387904,4]", "[0,0]"), 0), "contradicts");
  corrupt(file_of(entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[2,6]"), 6),
          "overlaps");
  corrupt(file_of(entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[0,4]"), 4),
          "overlaps");
  corrupt(file_of(entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[1]", "[8,12]"), 12), "hole");
  const auto wide = open_bytes(file_of(entry("a", "F64", "[1]", "[0,8]"), 8));
  REQUIRE(!wide);
  CHECK(wide.error().code == weft::errc::unsupported);
}

TEST_CASE("a cut-off or changed file never reads outside the file") {
  const auto whole = read(WEFT_SOURCE_DIR "/tests/fixtures/llama_linear/model.safetensors");
  REQUIRE(open_bytes(whole));
  for (std::size_t size = 0; size < whole.size(); size += size < 64 ? 1 : 997)
    CHECK(!open_bytes(whole.substr(0, size)));
  weft::test::split_mix64 random(1);
  std::size_t refused = 0;
  for (int round = 0; round < 500; ++round) {
    auto changed = whole;
    changed[random.below(2000)] = static_cast<char>(random.below(256));
    const auto opened = open_bytes(changed);
    if (!opened) {
      ++refused;
      continue;
    }
    for (const auto& [name, tensor] : opened->all())
      CHECK(tensor.bytes.size() <= whole.size());
    opened->digest();
  }
  CHECK(refused > 100);
}

TEST_CASE("shards are one model") {
  const std::filesystem::path sharded = WEFT_SOURCE_DIR "/tests/fixtures/llama";
  const auto opened = tensor_files::open(sharded);
  REQUIRE_MESSAGE(opened.has_value(), opened.error().context);
  CHECK(opened->all().size() == 30);
  REQUIRE(opened->find("lm_head.weight") != nullptr);
  CHECK(opened->find("lm_head.weight")->shape == std::vector<std::uint64_t>{160, 64});

  const temporary_folder copy;
  std::filesystem::copy(sharded, copy.path());
  REQUIRE(tensor_files::open(copy.path()));
  std::filesystem::rename(copy.path() / "model-00002-of-00004.safetensors", copy.path() / "kept");
  const auto missing = tensor_files::open(copy.path());
  REQUIRE(!missing);
  CHECK(missing.error().context.find("model-00002-of-00004") != std::string::npos);
  std::filesystem::copy(copy.path() / "model-00001-of-00004.safetensors",
                        copy.path() / "model-00002-of-00004.safetensors");
  const auto wrong = tensor_files::open(copy.path());
  REQUIRE(!wrong);
  CHECK(wrong.error().code == weft::errc::corrupt);
  copy.write("model.safetensors.index.json", R"({"weight_map": {"a": "../model.safetensors"}})");
  const auto outside = tensor_files::open(copy.path());
  REQUIRE(!outside);
  CHECK(outside.error().code == weft::errc::corrupt);
}

TEST_CASE("the digest is of names, types, shapes and bytes, not of the files' layout") {
  const temporary_folder folder;
  const std::vector<float> one{1, 2}, two{3, 4};
  const auto digest = [&](const std::vector<tensor_to_write>& tensors) {
    REQUIRE(write_safetensors(folder.path() / "model.safetensors", tensors));
    return tensor_files::open(folder.path())->digest();
  };
  const tensor_to_write a{"a", "F32", {2}, std::as_bytes(std::span(one))};
  const tensor_to_write b{"b", "F32", {2}, std::as_bytes(std::span(two))};
  const auto first = digest({a, b});
  CHECK(first == digest({b, a}));
  auto changed = b;
  changed.name = "c";
  CHECK(first != digest({a, changed}));
  changed = b;
  changed.shape = {2, 1};
  CHECK(first != digest({a, changed}));
  changed = b;
  changed.bytes = a.bytes;
  CHECK(first != digest({a, changed}));
}

TEST_CASE("a folder without weights is not found") {
  const temporary_folder folder;
  const auto opened = tensor_files::open(folder.path());
  REQUIRE(!opened);
  CHECK(opened.error().code == weft::errc::not_found);
}
