#include <weft/launcher/study/retrieved_evaluation.hpp>

#include <doctest/doctest.h>

#include "shipped_model.hpp"

#include <string>

using namespace weft::launcher::study;

namespace {

void ignore(std::size_t) {}

}  // namespace

TEST_CASE("evidence: who holds a part of the answer together with a name") {
  const std::vector<std::string> documents{"The home station of Gareby is Tavael.",
                                           "The master key of Tavael is 1418.",
                                           "The master key of Raseth is 1418.", "Nothing at all."};
  const auto hop =
      evidence_of(documents, {"What is the master key of the home station of Gareby?", {"Tavael, 1418"}});
  REQUIRE(hop.size() == 2);
  CHECK(hop[0] == std::vector<std::size_t>{0});
  CHECK(hop[1] == std::vector<std::size_t>{1});
  // No document names Velilo: all that hold the answer.
  const auto nameless = evidence_of(documents, {"What is the key of Velilo?", {"1418"}});
  REQUIRE(nameless.size() == 1);
  CHECK(nameless[0] == std::vector<std::size_t>{1, 2});
}

TEST_CASE("the documents that hold the answer are found, and answer as all of them do") {
  auto contexts = *read_set_file(WEFT_SOURCE_DIR "/models/sets/needle_512.jsonl");
  contexts.resize(4);
  auto model = shipped_model("auto");
  const std::vector<std::size_t> counts{1, 2, 100};
  for (const auto pool : {document_pool::context, document_pool::set}) {
    const auto cells = evaluate_retrieved(model, contexts, counts, pool, ignore);
    REQUIRE_MESSAGE(cells.has_value(), cells.error().context);
    REQUIRE(cells->size() == 3);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      CHECK((*cells)[i].chosen == counts[i]);
      CHECK((*cells)[i].recall >= (i == 0 ? 60 : 80));
      if (i > 0) CHECK((*cells)[i].recall >= (*cells)[i - 1].recall);
    }
    CHECK((*cells)[2].recall == 100);
  }
  const auto own =
      evaluate_retrieved(model, contexts, std::vector<std::size_t>{100}, document_pool::context, ignore);
  const auto all = evaluate(model, contexts, weft::policies::stitch_policy::none, ignore);
  REQUIRE(own);
  REQUIRE(all);
  CHECK(own->front().answers.score == all->front().score);
}
