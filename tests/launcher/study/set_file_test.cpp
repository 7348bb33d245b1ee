#include <weft/launcher/study/set_file.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"

using weft::launcher::study::read_set_file;

namespace {

auto read(const std::string& content) {
  const weft::test::temporary_folder folder;
  folder.write("set.jsonl", content);
  return read_set_file(folder.path() / "set.jsonl");
}

}  // namespace

TEST_CASE("the shipped sets are read whole") {
  const auto contexts = read_set_file(WEFT_SOURCE_DIR "/models/sets/hop_512.jsonl");
  REQUIRE_MESSAGE(contexts.has_value(), contexts.error().context);
  CHECK(contexts->size() == 50);
  CHECK(contexts->front().task == "hop");
  CHECK(contexts->front().documents.size() >= 2);
  CHECK(!contexts->front().questions.front().answers.front().empty());
}

TEST_CASE("blank lines do not count, wrong ones are named") {
  const std::string good =
      R"({"id":"a","task":"kv","documents":["x"],"questions":[{"question":"q","answers":["1"]}]})";
  const auto two = read(good + "\n\n" + good + "\r\n");
  REQUIRE(two);
  CHECK(two->size() == 2);
  for (const std::string wrong : {"{", "[]", "{\"documents\":[1],\"questions\":[]}", "{\"documents\":[]}",
                                  R"({"documents":[],"questions":[{"question":"q","answers":[]}]})"}) {
    const auto refused = read(good + "\n" + wrong);
    CAPTURE(wrong);
    REQUIRE(!refused);
    CHECK(refused.error().code == weft::errc::invalid_argument);
    CHECK(refused.error().context.find("set.jsonl:2") != std::string::npos);
  }
  CHECK(!read(""));
}

TEST_CASE("a file that is not there, and a folder") {
  const auto missing = read_set_file("/nonexistent/set.jsonl");
  REQUIRE(!missing);
  CHECK(missing.error().code == weft::errc::not_found);
  CHECK(!read_set_file("/tmp"));
}
