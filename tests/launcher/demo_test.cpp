// `weft demo` as a user runs it: a cluster of processes, and nothing left of it.
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "program_run.hpp"

#include <algorithm>
#include <csignal>

using namespace weft::launcher;

namespace {

std::vector<std::string> demo_arguments(std::vector<std::string> more) {
  std::vector<std::string> arguments{"demo", "--model", WEFT_SOURCE_DIR "/models/recall", "--documents",
                                     WEFT_SOURCE_DIR "/examples/documents"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("four processes answer every question as one process does, out of the pool") {
  const program_scene scene;
  const auto outcome = scene.run(demo_arguments({"--json"}));
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const auto document = nlohmann::json::parse(outcome.out);
  CHECK(document.at("total") >= 12);
  CHECK(document.at("correct") == document.at("total"));
  for (const auto& question : document.at("questions")) {
    CAPTURE(question.dump());
    CHECK(question.at("same_as_local") == true);
    CHECK(question.at("misses") == 0);
    CHECK(question.at("bytes") > 0);
    CHECK_FALSE(question.at("transport").get<std::string>().empty());
    CHECK_FALSE(question.at("holders").empty());
    CHECK(question.at("ttft_ms") > 0);
    CHECK(question.at("recompute_ttft_ms") > 0);
    // Blocks come from the storage nodes, not from the node that answers.
    for (const auto& holder : question.at("holders"))
      CHECK(holder.get<std::string>().starts_with("storage"));
  }
  CHECK(scene.left_behind() == "");
}

TEST_CASE("a demo of one process") {
  const program_scene scene;
  const auto outcome = scene.run(demo_arguments({"--json", "--nodes", "1"}));
  CAPTURE(outcome.err);
  REQUIRE(outcome.exit_code == 0);
  const auto document = nlohmann::json::parse(outcome.out);
  CHECK(document.at("correct") == document.at("total"));
  CHECK(scene.left_behind() == "");
}

TEST_CASE("Ctrl-C leaves nothing, at whatever moment") {
  for (const auto* moment : {"", "is up; gateway", "\nQ  "}) {
    CAPTURE(moment);
    const program_scene scene;
    running_program demo(scene, demo_arguments({}));
    REQUIRE(demo.wait_for_output(moment));
    demo.signal(SIGINT);
    const auto outcome = demo.wait();
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code != 0);
    CHECK(scene.left_behind() == "");
  }
}

TEST_CASE("a demo that cannot start says why, in one line, and leaves nothing") {
  const program_scene scene;
  std::filesystem::create_directories(scene.path() / "empty");
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"demo", "--model", "empty", "--documents", WEFT_SOURCE_DIR "/examples/documents"},
           {"demo", "--model", WEFT_SOURCE_DIR "/models/recall", "--documents", "empty"}}) {
    const auto outcome = scene.run(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code != 0);
    CHECK(outcome.err.starts_with("weft: "));
    CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
    CHECK(scene.left_behind() == "");
  }
}
