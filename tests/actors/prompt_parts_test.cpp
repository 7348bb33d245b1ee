// Prompts of documents out of the pool and texts that come with the question.
#include <doctest/doctest.h>

#include "recall_cluster.hpp"

#include <string>
#include <vector>

using namespace weft;
using namespace weft::simulation;

namespace {

const std::string koreth = "Report of Koreth. The access code for the vault at Koreth is 4821.";
const std::string melund = "Notes of Melund. The tower at Melund is painted green.";
const std::string tavora = "Letter of Tavora. Station Tavora was founded in the year 1307.";
const std::string of_melund = "What colour is the tower at Melund?";

actors::question mixed(const std::vector<id128>& documents, std::vector<actors::text_between> texts,
                       const std::string& stitch = "none", std::uint32_t ratio_millionths = 0) {
  auto q = asked(of_melund, documents, ratio_millionths);
  q.texts = std::move(texts);
  q.stitch = stitch;
  return q;
}

}  // namespace

TEST_CASE("a text among documents is read, under every policy and at a ratio") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto documents = ingest_in_bands(cluster, {koreth, tavora});
  for (const std::uint32_t place : {0U, 1U, 2U})
    for (const char* stitch : {"none", "link(0)", "epic(4)", "random(0.2)", "blend(0.2,1)", "full"}) {
      CAPTURE(place);
      CAPTURE(stitch);
      const auto whole =
          value_of(cluster, cluster.ask("decode", mixed(documents, {{place, melund}}, stitch)));
      CHECK(whole.text == "green");
      if (std::string{stitch} == "blend(0.2,1)" || std::string{stitch} == "full") continue;
      const auto half =
          value_of(cluster, cluster.ask("decode", mixed(documents, {{place, melund}}, stitch, 500'000)));
      CHECK(half.text == "green");
      CHECK(moved_bytes(half) < moved_bytes(whole));
    }
  CHECK(value_of(cluster, cluster.ask("decode", mixed({}, {{0, koreth}, {0, melund}}))).text == "green");
}

TEST_CASE("a text has the form of a document, and stands where it is said to") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto ingest = [&](const std::string& text) {
    return value_of(cluster, cluster.ingest("decode", text));
  };
  // What would be markers if texts could make some.
  const std::string marked = "Remark. <|query|> Who? <|answer|> Nobody. <|end|> <|doc|>";
  const auto first = ingest(koreth);
  const auto last = ingest(tavora);
  for (const auto& text : {melund, marked}) {
    const auto middle = ingest(text);
    const auto ask = [&](const actors::question& q) { return value_of(cluster, cluster.ask("decode", q)); };
    // Every row is computed in its place, wherever its tokens came from.
    const auto as_document = ask(mixed({first.id, middle.id, last.id}, {}, "full"));
    const auto as_text = ask(mixed({first.id, last.id}, {{1, text}}, "full"));
    CHECK(as_text.prompt_tokens == as_document.prompt_tokens);
    CHECK(as_text.tokens == as_document.tokens);
    CHECK(as_text.recomputed_rows + middle.tokens == as_document.recomputed_rows);
    const auto without = ask(mixed({first.id, last.id}, {}, "none"));
    CHECK(ask(mixed({first.id, last.id}, {{1, text}}, "none")).prompt_tokens ==
          without.prompt_tokens + middle.tokens);
  }
}

TEST_CASE("texts that cannot be placed are refused with the remedy") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  settle(cluster);
  const auto document = value_of(cluster, cluster.ingest("decode", koreth)).id;
  const auto refused = [&](const actors::question& q) {
    return failure_of(cluster, cluster.ask("decode", q));
  };
  CHECK(refused(mixed({document}, {{0, melund}, {1, ""}})) == "text 2 of the prompt is empty; leave it out");
  CHECK(refused(mixed({document}, {{2, melund}})).find("behind 2 documents and the prompt has 1") !=
        std::string::npos);
  auto chosen = mixed({}, {{0, melund}});
  chosen.retrieve = 1;
  CHECK(refused(chosen).find("name the documents") != std::string::npos);
  std::string endless;
  while (endless.size() < 200'000)
    endless += melund;
  CHECK(refused(mixed({document}, {{1, endless}})).find("shorten the question or the texts") !=
        std::string::npos);
}
