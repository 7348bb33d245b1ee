#include <weft/engine/tokenizer.hpp>

#include <doctest/doctest.h>

#include "golden_texts.hpp"
#include "temporary_folder.hpp"

#include <fstream>
#include <iterator>
#include <thread>

using weft::engine::special_tokens;
using weft::engine::token_id;
using weft::engine::tokenizer;
using weft::test::golden_texts;
using weft::test::split_mix64;

namespace {

tokenizer load(const std::string& name) {
  const std::string root = WEFT_SOURCE_DIR;
  auto loaded = tokenizer::load(name == "recall" ? root + "/models/recall"
                                                 : root + "/tests/fixtures/tokenizers/" + name);
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

std::string fixture(const std::string& name) {
  std::ifstream in(WEFT_SOURCE_DIR "/tests/fixtures/tokenizers/" + name + "/tokenizer.json",
                   std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The text with some bytes changed, dropped or cut off, which leaves it invalid more often than not.
std::string broken(std::string text, std::uint64_t seed) {
  split_mix64 random(seed);
  for (std::size_t changes = 1 + random.below(4); changes > 0 && !text.empty(); --changes) {
    const std::size_t at = random.below(text.size());
    if (random.below(3) == 0)
      text.erase(at, 1);
    else
      text[at] = static_cast<char>(random.below(256));
  }
  return text;
}

weft::result<tokenizer> load_text(const std::string& content) {
  const weft::test::temporary_folder folder;
  folder.write("tokenizer.json", content);
  return tokenizer::load(folder.path());
}

}  // namespace

TEST_CASE("ids are those of the tokenizers package") {
  const golden_texts texts;
  REQUIRE(texts.count() == 10000);
  for (const std::string name : {"recall", "llama3", "qwen", "gpt2", "digits"}) {
    CAPTURE(name);
    const auto tokens = load(name);
    const auto wanted = weft::test::golden_hashes(name);
    REQUIRE(wanted.size() == texts.count());
    std::size_t different = 0;
    std::string first;
    for (std::size_t number = 0; number < texts.count(); ++number) {
      const auto text = texts.text(number);
      const auto specials = number % 4 == 3 ? special_tokens::as_text : special_tokens::recognised;
      if (weft::test::fnv1a(tokens.encode(text, specials)) == wanted[number]) continue;
      if (different++ == 0) first = std::to_string(number) + ": " + text;
    }
    CAPTURE(first);
    CHECK(different == 0);
  }
}

TEST_CASE("any bytes come back exactly, broken UTF-8 included") {
  const golden_texts texts;
  for (const std::string name : {"recall", "llama3", "gpt2", "digits"}) {
    const auto tokens = load(name);
    for (std::size_t number = 0; number < texts.count(); ++number) {
      const auto text = number % 2 == 0 ? texts.text(number) : broken(texts.text(number), number);
      const auto specials = number % 3 == 0 ? special_tokens::as_text : special_tokens::recognised;
      const auto back = tokens.decode(tokens.encode(text, specials));
      if (back == text) continue;
      CAPTURE(number);
      REQUIRE(back == text);
    }
  }
}

TEST_CASE("a normalizer changes characters, never bytes that are none") {
  const auto tokens = load("qwen");
  CHECK(tokens.decode(tokens.encode("e\u0301\xff\xc3 \xe2\x82 \u212b")) == "\u00e9\xff\xc3 \xe2\x82 \u00c5");
}

TEST_CASE("every byte alone and every pair of bytes comes back") {
  const auto tokens = load("llama3");
  for (int first = 0; first < 256; ++first)
    for (int second = -1; second < 256; ++second) {
      std::string text(1, static_cast<char>(first));
      if (second >= 0) text.push_back(static_cast<char>(second));
      if (tokens.decode(tokens.encode(text)) == text) continue;
      CAPTURE(first);
      CAPTURE(second);
      REQUIRE(tokens.decode(tokens.encode(text)) == text);
    }
}

TEST_CASE("special tokens are recognised or taken as text, as asked") {
  const auto tokens = load("recall");
  const auto end = tokens.id_of("<|end|>");
  REQUIRE(end == 1271);
  CHECK(tokens.encode("<|end|>") == std::vector<token_id>{1271});
  const auto as_text = tokens.encode("<|end|>", special_tokens::as_text);
  CHECK(as_text.size() > 1);
  CHECK(tokens.decode(as_text) == "<|end|>");
  CHECK(tokens.decode(std::vector<token_id>{1271}, true).empty());
  CHECK(tokens.decode(std::vector<token_id>{1271}, false) == "<|end|>");
  CHECK(!tokens.id_of("<|no such token|>"));
  CHECK(tokens.vocab_size() == 1280);
}

TEST_CASE("ids outside the vocabulary stand for nothing") {
  const auto tokens = load("recall");
  CHECK(tokens.decode(std::vector<token_id>{-1, 999999, 1280}).empty());
}

TEST_CASE("one tokenizer serves several threads") {
  const golden_texts texts;
  const auto tokens = load("recall");
  const auto wanted = weft::test::golden_hashes("recall");
  std::vector<std::size_t> different(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t worker = 0; worker < different.size(); ++worker)
    threads.emplace_back([&, worker] {
      for (std::size_t number = worker; number < 800; number += 4)
        if (number % 4 != 3 && weft::test::fnv1a(tokens.encode(texts.text(number))) != wanted[number])
          ++different[worker];
    });
  for (auto& thread : threads)
    thread.join();
  for (const auto count : different)
    CHECK(count == 0);
}

TEST_CASE("long documents: prose, one endless word, blanks only, broken bytes only") {
  const auto tokens = load("llama3");
  std::string prose;
  for (std::size_t i = 0; prose.size() < 1'000'000; ++i)
    prose += "The keeper of station " + std::to_string(i) + " was founded. ";
  for (const auto& text : {prose, std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
                           std::string(500'000, ' ') + "x", std::string(1'000'000, '\xff')})
    CHECK(tokens.decode(tokens.encode(text)) == text);
}

TEST_CASE("files that are no byte-level BPE are refused by name") {
  const auto file = fixture("llama3");
  const auto refused = [](const std::string& content, weft::errc code, const std::string& part) {
    const auto loaded = load_text(content);
    REQUIRE(!loaded);
    CHECK(loaded.error().code == code);
    CAPTURE(loaded.error().context);
    CHECK(loaded.error().context.find(part) != std::string::npos);
    CHECK(loaded.error().context.find('\n') == std::string::npos);
  };
  using weft::errc;
  REQUIRE(load_text(file));
  refused("", errc::invalid_argument, "tokenizer.json");
  refused("[]", errc::invalid_argument, "tokenizer.json");
  refused(file.substr(0, file.size() / 2), errc::invalid_argument, "JSON");
  refused(replaced(file, "\"BPE\"", "\"WordPiece\""), errc::unsupported, "WordPiece");
  refused(replaced(file, "\"byte_fallback\": false", "\"byte_fallback\": true"), errc::unsupported,
          "byte_fallback");
  refused(replaced(file, "\"Isolated\"", "\"Removed\""), errc::unsupported, "Removed");
  refused(replaced(file, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFKC\"}"), errc::unsupported,
          "NFKC");
  refused(replaced(file, "(?i:", "(?i:("), errc::invalid_argument, "regular expression");
  refused(replaced(file, "\"lstrip\": false", "\"lstrip\": true"), errc::unsupported, "lstrip");
  refused(replaced(file, "\"vocab\": {\"!\": 0", "\"vocab\": {\"!!!\": 0"), errc::unsupported, "byte 33");
  refused(replaced(file, "\"vocab\": {\"!\": 0", "\"vocab\": {\"!\": 2000000000"), errc::invalid_argument,
          "2000000000");
  refused(replaced(file, "\"merges\": [[\"", "\"merges\": [[\"zzzz"), errc::invalid_argument, "merge 0");
}
