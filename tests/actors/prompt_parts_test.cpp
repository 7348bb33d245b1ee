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

namespace {

std::string long_system_text() {
  std::string text;
  for (int i = 0; i < 20; ++i)
    text += "Answer with one word and say nothing that the documents do not say. ";
  return text;
}

actors::question with_system(actors::question q) {
  q.system = long_system_text();
  return q;
}

}  // namespace

TEST_CASE("a system text is computed once on a node, whatever is asked behind it") {
  const auto model = recall_model();
  simulated_cluster cluster{plan_of(model)};
  auto plan = plan_of(model);
  plan.opening_bytes = 0;
  simulated_cluster forgetful{plan};
  settle(cluster);
  settle(forgetful);
  const auto documents = ingest_in_bands(cluster, {koreth, melund, tavora});
  REQUIRE(ingest_in_bands(forgetful, {koreth, melund, tavora}) == documents);
  std::uint64_t opening = 0;
  const auto ask = [&](const actors::question& q) {
    const auto kept = value_of(cluster, cluster.ask("decode", q));
    const auto anew = value_of(forgetful, forgetful.ask("decode", q));
    CHECK(kept.tokens == anew.tokens);
    CHECK(anew.reused_rows == 0);
    CHECK(kept.computed_rows + kept.reused_rows == anew.computed_rows);
    CHECK(kept.reused_rows == opening);
    return kept;
  };
  const auto without = ask(mixed(documents, {}));
  opening = 0;
  const auto first = ask(with_system(mixed(documents, {})));
  opening = first.prompt_tokens - without.prompt_tokens + 1;  // and the begin token
  REQUIRE(opening > 200);
  ask(with_system(mixed(documents, {})));
  ask(with_system(mixed({documents[1]}, {})));
  ask(with_system(mixed({documents[2], documents[1]}, {{1, koreth}})));
  ask(with_system(mixed(documents, {}, "epic(4)")));
  ask(with_system(mixed(documents, {}, "full")));
  ask(with_system(mixed(documents, {}, "none", 300'000)));
  ask(with_system(mixed({}, {})));
  auto other = with_system(mixed(documents, {}));
  other.system += "Please.";
  opening = 0;
  ask(other);
}

TEST_CASE("with memory for documents, all in front of the question serves the next one") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  simulated_cluster forgetful{plan};
  plan.base_bytes = 8 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  settle(forgetful);
  const auto documents = ingest_in_bands(cluster, {koreth, tavora});
  REQUIRE(ingest_in_bands(forgetful, {koreth, tavora}) == documents);
  const auto ask = [&](const actors::question& q) {
    const auto kept = value_of(cluster, cluster.ask("decode", q));
    const auto anew = value_of(forgetful, forgetful.ask("decode", q));
    CHECK(kept.tokens == anew.tokens);
    CHECK(anew.reused_rows == 0);
    return kept;
  };
  for (const char* stitch : {"none", "link(0)", "epic(4)", "random(0.2)", "blend(0.2,1)", "full"}) {
    CAPTURE(stitch);
    const auto first = ask(mixed(documents, {{1, melund}}, stitch));
    CHECK(first.reused_rows == 0);
    auto next = mixed(documents, {{1, melund}}, stitch);
    next.text = "In which year was station Tavora founded?";
    const auto second = ask(next);
    CHECK(second.text == "1307");
    CHECK(second.reused_rows >= 16);
    CHECK(second.computed_rows < 40);
    CHECK(moved_bytes(second) == 0);
    // What differs is another prompt.
    CHECK(ask(mixed({documents[1], documents[0]}, {{1, melund}}, stitch)).reused_rows == 0);
    CHECK(ask(mixed(documents, {{1, melund + "!"}}, stitch)).reused_rows == 0);
    if (std::string{stitch} == "blend(0.2,1)" || std::string{stitch} == "full") continue;
    const auto half = ask(mixed(documents, {{1, melund}}, stitch, 500'000));
    CHECK(half.reused_rows == 0);
    CHECK(ask(mixed(documents, {{1, melund}}, stitch, 500'000)).reused_rows >= 16);
  }
}

TEST_CASE("questions at the same time compute what stands in front of them once") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.opening_bytes = 0;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto documents = ingest_in_bands(cluster, {koreth, tavora});
  for (const char* stitch : {"none", "epic(4)"}) {
    CAPTURE(stitch);
    const auto q = with_system(mixed(documents, {{1, melund}}, stitch));
    const auto alone = value_of(cluster, cluster.ask("decode", q));
    std::vector<std::shared_ptr<eventual<actors::answer>>> all;
    for (int i = 0; i < 20; ++i)
      all.push_back(cluster.ask("decode", q));
    std::uint64_t reused = 0;
    for (const auto& one : all) {
      const auto got = value_of(cluster, one);
      CHECK(got.tokens == alone.tokens);
      CHECK(got.cache_bytes == alone.cache_bytes);
      if (got.reused_rows > 0) ++reused;
    }
    CHECK(reused == all.size() - 1);
  }
}
