#include "golden.hpp"

#include <weft/schema/rpc_convert.hpp>

#include <capnp/serialize.h>
#include <doctest/doctest.h>

#include "samples.hpp"

#include <cstring>

using namespace weft;
using namespace weft::schema;
using namespace weft::schema::testing;

namespace {

// As it was before documents were chosen for questions.
ask_request released_question() {
  auto question = sample_question();
  question.retrieve = question.stride = 0;
  question.scale.clear();
  question.judge.clear();
  question.threshold.reset();
  return question;
}

ask_result released_answer() {
  auto answer = sample_answer();
  answer.retrieved.clear();
  answer.ranked_documents = answer.unranked_documents = 0;
  answer.retrieve_ms = 0;
  answer.judged_rows = answer.dropped_rows = 0;
  answer.computed_rows = answer.reused_rows = 0;
  return answer;
}

template <class Wire, class Fill>
std::vector<std::byte> message_bytes(Fill fill) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<Wire>());
  const auto words = capnp::messageToFlatArray(message);
  const auto bytes = std::as_bytes(std::span(words.begin(), words.size()));
  return {bytes.begin(), bytes.end()};
}

template <class Wire, class Use>
void with_message(const std::vector<std::byte>& bytes, Use use) {
  std::vector<capnp::word> words(bytes.size() / sizeof(capnp::word));
  std::memcpy(words.data(), bytes.data(), bytes.size());
  capnp::FlatArrayMessageReader reader({words.data(), words.size()});
  use(reader.getRoot<Wire>());
}

// Of an earlier version: nothing writes them any more.
std::vector<std::byte> released_bytes(const std::string& name) {
  return golden_bytes(name, {});
}

// What we write is what was released, and what was released is read as what was meant.
template <class Wire, class Value>
void check_golden(const std::string& name, const Value& value) {
  CAPTURE(name);
  const auto current = message_bytes<Wire>([&](auto to) { write(value, to); });
  const auto golden = golden_bytes(name, current);
  CHECK(to_hex_lines(current) == to_hex_lines(golden));
  with_message<Wire>(golden, [&](auto from) { CHECK(read(from) == value); });
}

}  // namespace

TEST_CASE("every struct of the service keeps its bytes") {
  check_golden<wire::Id128>("id128", id128{0x0123456789abcdef, 0xfedcba9876543210});
  check_golden<wire::DocumentInfo>("document_info", sample_document());
  check_golden<wire::GenerateRequest>("generate_request", sample_question());
  check_golden<wire::GenerateRequest>("generate_request_mixed", sample_mixed_question());
  check_golden<wire::TokenPiece>("token_piece", sample_token());
  check_golden<wire::GenerateResult>("generate_result", sample_answer());
  check_golden<wire::BlockLayout>("block_layout", sample_layout());
  check_golden<wire::BlockInfo>("block_info", sample_block());
  check_golden<wire::ClusterStatus>("cluster_status", sample_status());
}

TEST_CASE("the head of an ingest keeps its bytes; its text travels apart") {
  const auto sample = sample_ingest();
  const auto current = message_bytes<wire::IngestRequest>([&](auto to) { write(sample, to); });
  const auto golden = golden_bytes("ingest_request", current);
  CHECK(to_hex_lines(current) == to_hex_lines(golden));
  with_message<wire::IngestRequest>(golden, [&](auto from) {
    const auto head = read(from);
    CHECK(head.name == sample.name);
    CHECK(head.text.empty());
    CHECK(from.getTextBytes() == sample.text.size());
    CHECK(head.importance == sample.importance);
    CHECK(head.ratio == sample.ratio);
    CHECK(head.codecs == sample.codecs);
  });
}

TEST_CASE("the first exchange keeps its bytes") {
  const auto hello = message_bytes<wire::Hello>([](wire::Hello::Builder to) {
    to.setMajor(1);
    to.setMinor(2);
    to.setToken(to_data("secret"));
    to.setClient("weft ask");
  });
  CHECK(to_hex_lines(hello) == to_hex_lines(golden_bytes("hello", hello)));
  const auto welcome = message_bytes<wire::Welcome>([](wire::Welcome::Builder to) {
    to.setMajor(1);
    to.setMinor(2);
    to.setSoftware("weft 0.1.0");
    to.setTextBytesMax(16 << 20);
    to.setBlockBytesMax(256 << 20);
  });
  CHECK(to_hex_lines(welcome) == to_hex_lines(golden_bytes("welcome", welcome)));
}

TEST_CASE("what is not given stays not given") {
  const auto bytes = message_bytes<wire::GenerateRequest>([](auto to) { write(ask_request{}, to); });
  with_message<wire::GenerateRequest>(bytes, [](auto from) { CHECK(read(from) == ask_request{}); });
  // A client that sets nothing at all asks for the same.
  with_message<wire::GenerateRequest>(message_bytes<wire::GenerateRequest>([](auto) {}), [](auto from) {
    const auto request = read(from);
    CHECK(!request.ratio);
    CHECK(!request.sparse_ratio);
    CHECK(!request.threshold);
    CHECK(request.top_p == 1);
    CHECK(request.temperature == 0);
  });
}

TEST_CASE("what was released before there were bands is read as what was meant") {
  auto document = sample_document();
  document.served_ratio = -1;
  document.band_bytes.clear();
  with_message<wire::DocumentInfo>(released_bytes("document_info_1"),
                                   [&](auto from) { CHECK(read(from) == document); });
  auto answer = released_answer();
  answer.cache_bytes = answer.full_bytes = 0;
  answer.sparse.reset();
  with_message<wire::GenerateResult>(released_bytes("generate_result_1"),
                                     [&](auto from) { CHECK(read(from) == answer); });
  with_message<wire::IngestRequest>(released_bytes("ingest_request_1"),
                                    [&](auto from) { CHECK(read(from).bands.empty()); });
  with_message<wire::IngestRequest>(released_bytes("ingest_request_2"),
                                    [&](auto from) { CHECK(read(from).codecs.empty()); });
  auto manifest = sample_manifest();
  manifest.band_ends.clear();
  manifest.band_rows.clear();
  CHECK(from_bytes(released_bytes("manifest_1")).value() == manifest);
}

TEST_CASE("what was released before there was sparse decoding is read as what was meant") {
  auto question = released_question();
  question.sparse_ratio.reset();
  with_message<wire::GenerateRequest>(released_bytes("generate_request_1"),
                                      [&](auto from) { CHECK(read(from) == question); });
  auto answer = released_answer();
  answer.sparse.reset();
  with_message<wire::GenerateResult>(released_bytes("generate_result_2"),
                                     [&](auto from) { CHECK(read(from) == answer); });
}

TEST_CASE("what was released before documents were chosen for questions is read as what was meant") {
  with_message<wire::GenerateRequest>(released_bytes("generate_request_2"),
                                      [&](auto from) { CHECK(read(from) == released_question()); });
  with_message<wire::GenerateResult>(released_bytes("generate_result_3"),
                                     [&](auto from) { CHECK(read(from) == released_answer()); });
}

TEST_CASE("what was released before answers were judged is read as what was meant") {
  auto question = sample_question();
  question.judge.clear();
  question.threshold.reset();
  with_message<wire::GenerateRequest>(released_bytes("generate_request_3"),
                                      [&](auto from) { CHECK(read(from) == question); });
  auto answer = sample_answer();
  answer.judged_rows = answer.dropped_rows = 0;
  answer.computed_rows = answer.reused_rows = 0;
  with_message<wire::GenerateResult>(released_bytes("generate_result_4"),
                                     [&](auto from) { CHECK(read(from) == answer); });
}

TEST_CASE("what was released before texts stood among documents is read as what was meant") {
  with_message<wire::GenerateRequest>(released_bytes("generate_request_4"),
                                      [&](auto from) { CHECK(read(from) == sample_question()); });
}

TEST_CASE("what was released before rows were reused is read as what was meant") {
  auto answer = sample_answer();
  answer.computed_rows = answer.reused_rows = 0;
  with_message<wire::GenerateResult>(released_bytes("generate_result_5"),
                                     [&](auto from) { CHECK(read(from) == answer); });
}

TEST_CASE("the manifest keeps its bytes") {
  const auto current = to_bytes(sample_manifest()).value();
  const auto golden = golden_bytes("manifest", current);
  CHECK(to_hex_lines(current) == to_hex_lines(golden));
  CHECK(from_bytes(golden).value() == sample_manifest());
}
