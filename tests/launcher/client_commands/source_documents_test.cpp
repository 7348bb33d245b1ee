#include "source_documents.hpp"

#include <weft/schema/rpc_types.hpp>

#include <doctest/doctest.h>

#include "scratch_folder.hpp"

#include <vector>

using namespace weft;
using namespace weft::launcher;
using weft::launcher::testing::scratch_folder;

namespace {

struct found {
  std::vector<source_document> documents;
  std::vector<error> errors;
};

found read_all(const std::filesystem::path& file) {
  found all;
  for_each_document(
      file,
      [&](source_document d) {
        all.documents.push_back(std::move(d));
        return step::next;
      },
      [&](const error& e) { all.errors.push_back(e); });
  return all;
}

}  // namespace

TEST_CASE("a text file is one document of exactly its bytes") {
  const scratch_folder folder;
  const std::string text("caf\xe9\0\r\n", 7);
  const auto all = read_all(folder.write("notes.txt", text));
  REQUIRE(all.documents.size() == 1);
  CHECK(all.documents[0].name == "notes.txt");
  CHECK(all.documents[0].text == text);
  CHECK(all.errors.empty());
}

TEST_CASE("every line of a .jsonl file is one, and a bad line hides none behind it") {
  const scratch_folder folder;
  const auto file = folder.write("many.jsonl",
                                 "{\"id\":\"a\",\"text\":\"first\"}\n"
                                 "\n"
                                 "{\"id\":\"b\"}\n"
                                 "not json\n"
                                 "{\"id\":3,\"text\":\"\\u00e9\"}\r\n"
                                 "{\"text\":\"\"}\n"
                                 "{\"id\":\"c\",\"text\":\"caf\xe9\"}\n"
                                 "{\"text\":\"last\"}");
  const auto all = read_all(file);
  REQUIRE(all.documents.size() == 3);
  CHECK(all.documents[0].name == "a");
  CHECK(all.documents[0].text == "first");
  CHECK(all.documents[1].name == "3");
  CHECK(all.documents[1].text == "\xc3\xa9");
  CHECK(all.documents[2].name == file.string() + ":8");
  CHECK(all.documents[2].text == "last");
  REQUIRE(all.errors.size() == 4);
  CHECK(all.errors[0].context == file.string() + ":3: no \"text\"; write {\"id\": .., \"text\": ..}");
  CHECK(all.errors[1].context ==
        file.string() + ":4: not a JSON line in UTF-8; write {\"id\": .., \"text\": ..}");
  CHECK(all.errors[2].context == file.string() + ":6: the text is empty; give it at least one character");
  CHECK(all.errors[3].context ==
        file.string() + ":7: not a JSON line in UTF-8; write {\"id\": .., \"text\": ..}");
}

TEST_CASE("reading ends when it is told to") {
  const scratch_folder folder;
  const auto file = folder.write("many.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
  auto taken = 0;
  for_each_document(
      file,
      [&](source_document) {
        ++taken;
        return step::stop;
      },
      [](const error&) {});
  CHECK(taken == 1);
}

TEST_CASE("empty, too large and missing files are refused by name") {
  const scratch_folder folder;
  const auto empty = folder.write("empty.txt", "");
  CHECK(read_all(empty).errors.at(0).context ==
        empty.string() + " is empty; give it at least one byte of text");
  CHECK(read_all(folder.write("empty.jsonl", "\n\n")).errors.size() == 1);
  const auto large = folder.write("large.txt", "x");
  std::filesystem::resize_file(large, schema::limits::text_bytes + 1);
  CHECK(read_all(large).errors.at(0).code == errc::invalid_argument);
  CHECK(read_all(folder.path() / "none.txt").errors.at(0).code == errc::io);
  CHECK(read_all(folder.path()).errors.at(0).code == errc::io);
}
