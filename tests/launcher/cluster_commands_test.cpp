// up, down and node, config, and what they answer to wrong use.
#include <weft/launcher/cluster_file.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "program_run.hpp"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

using namespace weft::launcher;
using nlohmann::json;

namespace {

class cluster_scene : public program_scene {
 public:
  explicit cluster_scene(std::uint16_t gateway_port = 0) {
    example_options options;
    options.model_folder = WEFT_SOURCE_DIR "/models/recall";
    options.gateway_port = gateway_port;
    options.dram = "16 MiB";
    write("cluster.toml", example_cluster_file(options));
  }
  ~cluster_scene() { run({"down", "-q"}); }

  json document(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const auto outcome = run(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 0);
    return json::parse(outcome.out, nullptr, false);
  }
};

// A port of this machine that nobody else gets while this lives.
class taken_port {
 public:
  taken_port() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(fd_.get(), 1) == 0);
    REQUIRE(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  std::uint16_t port() const { return port_; }

 private:
  unique_fd fd_;
  std::uint16_t port_ = 0;
};

// None while the cluster does without it.
std::optional<json> live_node(const json& status, const std::string& name) {
  for (const auto& node : status.at("nodes")) {
    if (node.at("name") == name && node.at("alive") == true) return node;
  }
  return std::nullopt;
}

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool is_one_line(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n') == 1;
}

}  // namespace

TEST_CASE("up --detach, status, down") {
  const cluster_scene scene;
  const auto up = scene.document({"up", "--detach", "-v"});
  CHECK(up.at("nodes").size() == 4);
  const auto status = scene.document({"status"});
  REQUIRE(status.at("nodes").size() == 4);
  for (const auto& node : status.at("nodes"))
    CHECK(node.at("alive") == true);

  const auto again = scene.run({"up", "--detach"});
  CHECK(again.exit_code == 1);
  CHECK(again.err.find("runs already") != std::string::npos);

  CHECK(scene.document({"down"}).at("stopped") == true);
  const auto log = text_of(std::filesystem::path(up.at("run_folder").get<std::string>()) / "up.log");
  CHECK(log.find("ended (exit code 0)") != std::string::npos);
  CHECK(log.find("ended (signal") == std::string::npos);
  CHECK(scene.run({"status"}).exit_code == 3);
  CHECK(scene.run({"down"}).exit_code == 3);
  CHECK(scene.left_behind() == "");
}

TEST_CASE("a node that is killed comes back, as another incarnation of itself") {
  const cluster_scene scene;
  scene.document({"up", "--detach"});
  const auto before = live_node(scene.document({"status"}), "storage-1");
  REQUIRE(before);
  REQUIRE(kill(before->at("pid").get<pid_t>(), SIGKILL) == 0);
  std::optional<json> after;
  do {
    after = live_node(scene.document({"status"}), "storage-1");
  } while (!after || after->at("pid") == before->at("pid"));
  CHECK(after->at("incarnation") > before->at("incarnation"));
  CHECK(scene.run({"down"}).exit_code == 0);
  CHECK(scene.left_behind() == "");
}

TEST_CASE("the nodes do not outlive the one that watches over them") {
  const cluster_scene scene;
  running_program up(scene, {"up", "--json"});
  REQUIRE(up.wait_for_output("}\n"));
  up.signal(SIGKILL);
  const auto document = json::parse(up.wait().out);
  for (const auto& node : document.at("nodes")) {
    // Adopted by this process.
    int status = 0;
    CHECK(waitpid(node.at("pid").get<pid_t>(), &status, 0) == node.at("pid").get<pid_t>());
  }
  CHECK(scene.left_behind() == "");
}

TEST_CASE("a document in bands: ingested by importance, asked at a ratio, listed with what is served") {
  const cluster_scene scene;
  scene.document({"up", "--detach"});
  std::string text;
  for (int i = 1000; i < 1040; ++i)
    text += "The access code for the vault at Koreth " + std::to_string(i) + " is " + std::to_string(i * 7) +
            ". ";
  scene.write("vault.txt", text);
  scene.write("tower.txt", "Notes of Melund. The tower at Melund is painted green.");
  const auto stored = scene.document({"ingest", "vault.txt", "--importance", "kvzip"}).at("documents").at(0);
  CHECK(stored.at("importance") == "kvzip");
  CHECK(stored.at("bands") == json({0.1, 0.2, 0.3, 0.5, 0.7, 1.0}));
  scene.document({"ingest", "tower.txt"});

  const auto bytes = [&](std::vector<std::string> options) {
    options.insert(options.begin(), {"ask", "What is the access code?", "--document", "vault.txt"});
    const auto answer = scene.document(options);
    std::uint64_t sum = 0;
    for (const auto& transfer : answer.at("transfers"))
      sum += transfer.at("bytes").get<std::uint64_t>();
    return sum;
  };
  CHECK(bytes({}) == stored.at("band_bytes").at(5));
  CHECK(bytes({"--ratio", "0.3"}) == stored.at("band_bytes").at(2));
  CHECK(bytes({"--ratio", "0.25"}) == stored.at("band_bytes").at(2));

  const auto refused = scene.run({"ask", "What colour?", "--document", "tower.txt", "--ratio", "0.3"});
  CHECK(refused.exit_code == 1);
  CHECK(is_one_line(refused.err));
  CHECK(refused.err.find("--importance") != std::string::npos);
  for (const auto& document : scene.document({"documents"}).at("documents"))
    CHECK(document.at("served_ratio") == 1.0);
  CHECK(scene.run({"status"}).out.find("MiB left where they are") != std::string::npos);
  CHECK(scene.run({"down"}).exit_code == 0);
}

TEST_CASE("a port in use") {
  const taken_port taken;
  const cluster_scene scene(taken.port());
  for (const auto& arguments : std::vector<std::vector<std::string>>{{"up", "-q"}, {"up", "--detach"}}) {
    const auto outcome = scene.run(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == 1);
    CHECK(outcome.err.starts_with("weft: node decode did not start: "));
    CHECK(outcome.err.find(std::to_string(taken.port())) != std::string::npos);
    CHECK(is_one_line(outcome.err));
    CHECK(scene.left_behind() == "");
  }
}

TEST_CASE("wrong use: one line with a remedy, and the exit code that says whose fault it is") {
  const cluster_scene scene;
  scene.write("typo.toml", "modle = \"x\"\n");
  struct expectation {
    std::vector<std::string> arguments;
    int exit_code;
    std::string words;
  };
  const std::vector<expectation> expectations{
      {{}, 2, "--help"},
      {{"dmeo"}, 2, "did you mean `demo`?"},
      {{"config"}, 2, "config --help"},
      {{"config", "example", "--nodes", "0"}, 2, "--nodes"},
      {{"up", "none.toml"}, 2, "no such cluster file"},
      {{"down"}, 3, "`weft up` starts one"},
      {{"status"}, 3, ""},
      {{"status", "--gateway", "127.0.0.1:1"}, 3, "127.0.0.1:1"},
      {{"node", "cluster.toml", "storage-9"}, 2, "storage-9"},
  };
  for (const auto& expected : expectations) {
    const auto outcome = scene.run(expected.arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.exit_code == expected.exit_code);
    CHECK(outcome.out == "");
    CHECK(outcome.err.starts_with("weft: "));
    CHECK(outcome.err.find(expected.words) != std::string::npos);
    CHECK(is_one_line(outcome.err));
  }
  const auto typo = scene.run({"up", "typo.toml"});
  CHECK(typo.exit_code == 2);
  CHECK(typo.err.starts_with("weft: typo.toml:1:1: unknown key `modle`; did you mean `model`?"));
}

TEST_CASE("config example is a file that config check finds no mistake in") {
  const program_scene scene;
  const auto example =
      scene.run({"config", "example", "--nodes", "3", "--model", WEFT_SOURCE_DIR "/models/recall"});
  REQUIRE(example.exit_code == 0);
  scene.write("cluster.toml", example.out);
  CHECK(scene.run({"config", "check"}).exit_code == 0);
  scene.write("cluster.toml", "replicas = 0\n" + example.out);
  const auto wrong = scene.run({"config", "check", "--json"});
  CHECK(wrong.exit_code == 2);
  CHECK(json::parse(wrong.out).at("ok") == false);
}

TEST_CASE("what a layered load hides is measured against transfer and computing alone") {
  const program_scene scene;
  const std::vector<std::string> bench{
      "bench",    "ttft", "--shape",     "recall", "--model",   WEFT_SOURCE_DIR "/models/recall",
      "--tokens", "512",  "--transport", "shm",    "--overlap", "2"};
  auto arguments = bench;
  arguments.insert(arguments.end(), {"--threads", "1024"});
  const auto refused = scene.run(arguments);
  CHECK(refused.exit_code != 0);
  CHECK(refused.err.find("give fewer --threads") != std::string::npos);
  if (std::thread::hardware_concurrency() < 2) return;
  arguments = bench;
  arguments.emplace_back("--json");
  const auto measured = scene.run(arguments);
  CAPTURE(measured.err);
  REQUIRE(measured.exit_code == 0);
  const auto rows = json::parse(measured.out).at("rows");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].at("operation") == "first_token");
  CHECK_FALSE(rows[0].contains("ratio"));
  CHECK(rows[1].at("operation") == "first_token_layered");
  CHECK(rows[1].contains("hidden"));
  for (const char* part : {"load_ms", "compute_ms", "first_token_ms"}) {
    CHECK(rows[0].at(part) > 0);
    CHECK(rows[1].at(part) > 0);
  }
}

TEST_CASE("every command explains itself with an example") {
  const program_scene scene;
  for (const auto& command : std::vector<std::vector<std::string>>{{"demo"},
                                                                   {"up"},
                                                                   {"down"},
                                                                   {"node"},
                                                                   {"config", "example"},
                                                                   {"config", "check"},
                                                                   {"bench", "kernels"},
                                                                   {"bench", "pool"},
                                                                   {"bench", "ttft"}}) {
    auto arguments = command;
    arguments.emplace_back("--help");
    const auto outcome = scene.run(arguments);
    CAPTURE(command.back());
    CHECK(outcome.exit_code == 0);
    CHECK(outcome.out.find("Example:\n  weft " + command.front()) != std::string::npos);
    CHECK(outcome.out.find("--json") != std::string::npos);
  }
}
