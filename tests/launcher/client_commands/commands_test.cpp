#include <weft/launcher/client_commands.hpp>

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "scratch_folder.hpp"
#include "scripted_backend.hpp"

#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

using namespace weft;
using namespace weft::launcher;
using nlohmann::json;
using weft::launcher::gateway::testing::running_gateway;
using weft::launcher::testing::scratch_folder;

namespace {

struct outcome {
  int code = 0;
  std::string out;
  std::string err;

  json document() const { return json::parse(out); }
};

class redirected {
 public:
  explicit redirected(std::ostream& stream) : stream_(stream), before_(stream.rdbuf(text_.rdbuf())) {}
  ~redirected() { stream_.rdbuf(before_); }
  redirected(const redirected&) = delete;
  redirected& operator=(const redirected&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostream& stream_;
  std::ostringstream text_;
  std::streambuf* before_;
};

outcome run(std::vector<std::string> arguments) {
  command_context context;
  CLI::App app("weft");
  add_client_commands(app, context);
  const redirected out(std::cout);
  const redirected err(std::cerr);
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError&) {
    return {exit_wrong_use, out.text(), err.text()};
  }
  return {context.exit_code, out.text(), err.text()};
}

outcome run_on(const running_gateway& gateway, std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"--gateway", gateway.server->address()});
  return run(std::move(arguments));
}

}  // namespace

TEST_CASE("documents go in by file, are listed, pinned and dropped by id or by name") {
  const scratch_folder folder;
  const running_gateway gateway;
  const auto notes = folder.write("notes.txt", "some notes").string();
  const auto more =
      folder.write("more.jsonl", "{\"id\":\"a\",\"text\":\"first\"}\n{\"id\":\"b\",\"text\":\"second\"}\n");
  const auto added = run_on(gateway, {"ingest", notes, more.string(), "--json"});
  REQUIRE(added.code == exit_done);
  const auto documents = added.document()["documents"];
  REQUIRE(documents.size() == 3);
  CHECK(documents[0]["name"] == "notes.txt");
  CHECK(documents[0]["tokens"] == 10);
  CHECK(documents[0]["holders"] == json({"storage-1", "storage-2"}));
  CHECK(documents[0]["importance"] == "none");
  CHECK(documents[0]["bands"] == json({1.0}));
  CHECK(documents[0]["ms"] == 2.5);
  CHECK(documents[0].contains("blocks"));
  CHECK(documents[0].contains("bytes"));
  CHECK(documents[1]["name"] == "a");

  CHECK(run_on(gateway, {"documents", "--json"}).document()["documents"].size() == 3);
  const std::string id = documents[1]["id"];
  CHECK(run_on(gateway, {"pin", "notes.txt", "--json"}).document()["pinned"] == json({documents[0]["id"]}));
  CHECK(run_on(gateway, {"documents"}).out.find("pinned  notes.txt") != std::string::npos);
  CHECK(run_on(gateway, {"unpin", "notes.txt"}).code == exit_done);
  CHECK(run_on(gateway, {"drop", id, "b"}).code == exit_done);
  CHECK(run_on(gateway, {"documents", "--json"}).document()["documents"].size() == 1);
}

TEST_CASE("raw blocks go in by file and come out again byte by byte") {
  const scratch_folder folder;
  const running_gateway gateway;
  const std::string key = "0123456789abcdef0123456789abcdef";
  const std::string other = "ffffffffffffffff0000000000000001";
  const std::string bytes("k\0v\xff\n", 5);
  const auto named = folder.write(key + ".kv", bytes).string();
  const auto put = run_on(
      gateway, {"import", named, "--layout", "engine-1", "--tokens", "64", "--fingerprint", other, "--json"});
  REQUIRE(put.code == exit_done);
  CHECK(put.document() == json({{"blocks", {{{"key", key}, {"bytes", 5}}}}}));

  const auto out = (folder.path() / "out.kv").string();
  const auto got = run_on(gateway, {"export-block", key, "--out", out, "--json"});
  REQUIRE(got.code == exit_done);
  CHECK(got.document() == json({{"key", key},
                                {"layout", "engine-1"},
                                {"fingerprint", other},
                                {"tokens", 64},
                                {"bytes", 5},
                                {"file", out}}));
  std::ifstream file(out, std::ios::binary);
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == bytes);
  CHECK(run_on(gateway, {"export-block", key}).out == bytes);

  const auto any_name = folder.write("block", "abc").string();
  CHECK(run_on(gateway, {"import", any_name, "--key", other}).out == "imported " + other + "  3 bytes\n");
  CHECK(run_on(gateway, {"export-block", other}).out == "abc");
}

TEST_CASE("raw blocks without a key, and keys without a block, are named") {
  const scratch_folder folder;
  const running_gateway gateway;
  const auto nameless = folder.write("block.kv", "abc").string();
  const auto refused = run_on(gateway, {"import", nameless});
  CHECK(refused.code == exit_wrong_use);
  CHECK(refused.err.find(nameless + ": its name is no key") != std::string::npos);
  CHECK(run_on(gateway, {"import", nameless, "--key", "12"}).code == exit_wrong_use);
  const auto two = run_on(gateway, {"import", nameless, nameless, "--key", std::string(32, 'a')});
  CHECK(two.code == exit_wrong_use);
  CHECK(two.err.find("--key names one block") != std::string::npos);
  const auto missing = run_on(gateway, {"export-block", std::string(32, 'a')});
  CHECK(missing.code == exit_failed);
  CHECK(missing.err.find(std::string(32, 'a')) != std::string::npos);
  CHECK(run_on(gateway, {"export-block", std::string(32, 'a'), "--json"}).code == exit_wrong_use);
}

TEST_CASE("what was ingested is printed with id, tokens, blocks, bytes and holders") {
  const scratch_folder folder;
  const running_gateway gateway;
  const auto added = run_on(gateway, {"ingest", folder.write("notes.txt", "some notes").string()});
  CHECK(added.code == exit_done);
  CHECK(added.out.find("notes.txt  10 tokens  1 blocks  4096 bytes  storage-1,storage-2") !=
        std::string::npos);
  CHECK(added.err.empty());
}

TEST_CASE("bad documents are named, good ones beside them go in, and the exit code tells") {
  const scratch_folder folder;
  const running_gateway gateway;
  const auto empty = folder.write("empty.txt", "").string();
  const auto good = folder.write("good.txt", "good\xff").string();
  const auto mixed = run_on(gateway, {"ingest", empty, good, "--json"});
  CHECK(mixed.code == exit_failed);
  CHECK(mixed.document()["documents"].size() == 1);
  CHECK(mixed.err == "weft: " + empty + " is empty; give it at least one byte of text\n");
  CHECK(run_on(gateway, {"ingest", folder.path().string() + "/none.txt"}).code == exit_wrong_use);
  CHECK(run_on(gateway, {"ingest"}).code == exit_wrong_use);
}

TEST_CASE("10 MB go through the command too") {
  const scratch_folder folder;
  const running_gateway gateway;
  const auto large = folder.write("large.txt", std::string(10'000'000, 'x')).string();
  const auto added = run_on(gateway, {"ingest", large, "--json"});
  REQUIRE(added.code == exit_done);
  CHECK(added.document()["documents"][0]["tokens"] == 10'000'000);
}

TEST_CASE("an answer is streamed as text, or comes as one JSON document") {
  const scratch_folder folder;
  const running_gateway gateway;
  REQUIRE(run_on(gateway, {"ingest", folder.write("notes.txt", "some notes").string()}).code == exit_done);
  CHECK(run_on(gateway, {"ask", "who was it?", "--document", "notes.txt"}).out == "who was it?\n");
  const auto asked = gateway.backend->last_question();
  CHECK(asked.question == "who was it?");
  CHECK(asked.documents.size() == 1);

  const auto full =
      run_on(gateway, {"ask", "who was it?", "--document", "notes.txt", to_hex(asked.documents[0]),
                       "--system", "be brief", "--stitch", "full", "--max-tokens", "2", "--json"});
  REQUIRE(full.code == exit_done);
  const auto answer = full.document();
  CHECK(answer["answer"] == "who was ");
  CHECK(answer["tokens"] == json({0, 1}));
  for (const auto* key :
       {"prompt_tokens", "recomputed_rows", "ttft_ms", "load_ms", "rotate_ms", "compute_ms",
        "decode_tokens_per_s", "misses", "judged_rows", "dropped_rows", "computed_rows", "reused_rows"})
    CHECK(answer[key].is_number());
  CHECK(answer["transfers"][0] ==
        json({{"holder", "storage-1"}, {"transport", "shm"}, {"path", "posix/memory"}, {"bytes", 4096}}));
  CHECK(gateway.backend->last_question().system == "be brief");
  CHECK(gateway.backend->last_question().stitch == "full");
  CHECK(gateway.backend->last_question().documents.size() == 2);

  REQUIRE(run_on(gateway, {"ask", "who?", "--judge", "kvzap_mlp", "--threshold", "-6.5"}).code == exit_done);
  CHECK(gateway.backend->last_question().judge == "kvzap_mlp");
  CHECK(gateway.backend->last_question().threshold == -6.5);

  const auto stats = run_on(gateway, {"ask", "who?", "--stats"});
  CHECK(stats.out.find("who?\nfrom storage-1 by shm (posix/memory): 4096 bytes\n") == 0);
}

TEST_CASE("texts stand among documents as they do on the command line") {
  const scratch_folder folder;
  const running_gateway gateway;
  REQUIRE(run_on(gateway, {"ingest", folder.write("a.txt", "first").string(),
                           folder.write("b.txt", "second").string()})
              .code == exit_done);
  REQUIRE(run_on(gateway, {"ask", "who?", "--document", "a.txt", "b.txt"}).code == exit_done);
  const auto plain = gateway.backend->last_question();
  CHECK(plain.parts.empty());
  REQUIRE(plain.documents.size() == 2);
  const auto a = plain.documents[0];
  const auto b = plain.documents[1];

  REQUIRE(run_on(gateway, {"ask", "who?", "--text", "[one, two]", "--document", "a.txt", "--text", "--x",
                           "-d", "b.txt", "a.txt", "--text=last", "--text", "more"})
              .code == exit_done);
  const auto mixed = gateway.backend->last_question();
  CHECK(mixed.documents.empty());
  using parts = std::vector<schema::prompt_part>;
  CHECK(mixed.parts == parts{"[one, two]", a, "--x", b, a, "last", "more"});
  // One value for each --text: what follows is the question.
  REQUIRE(run_on(gateway, {"ask", "--text", "alone", "who?"}).code == exit_done);
  CHECK(gateway.backend->last_question().parts == parts{"alone"});

  const auto empty = run_on(gateway, {"ask", "who?", "--document", "a.txt", "--text", ""});
  CHECK(empty.code == exit_failed);
  CHECK(empty.err == "weft: text 1 of the prompt is empty; leave it out\n");
  const auto chosen = run_on(gateway, {"ask", "who?", "--retrieve", "2", "--text", "note"});
  CHECK(chosen.code == exit_wrong_use);
  CHECK(chosen.err.find("name them with --document") != std::string::npos);
}

TEST_CASE("numbers that are refused are shown as they were given") {
  const running_gateway gateway;
  CHECK(run_on(gateway, {"ask", "who?", "--ratio", "0"}).err ==
        "weft: ratio 0 is not in (0, 1]; 0.25 keeps a quarter\n");
  CHECK(run_on(gateway, {"ask", "who?", "--top-p", "0"}).err ==
        "weft: top_p 0 is not in (0, 1]; 1 chooses among all tokens\n");
  CHECK(run_on(gateway, {"ask", "who?", "--judge", "kvzap_mlp", "--threshold", "-1234.5"})
            .err.find("a threshold of -1234.5 is") != std::string::npos);
}

TEST_CASE("status has the keys that others rely on") {
  const running_gateway gateway;
  const auto status = run_on(gateway, {"status", "--json"}).document();
  CHECK(status["epoch"] == 7);
  const auto node = status["nodes"][0];
  CHECK(node["name"] == "storage-1");
  CHECK(node["pid"] == 42);
  CHECK(node["alive"] == true);
  CHECK(node["incarnation"] == 0xfeedfacecafebeef);
  CHECK(node["roles"] == json({"storage"}));
  CHECK(node["dram"] == json({{"used_bytes", 1024}, {"capacity_bytes", 4096}}));
  CHECK(node["file"] == json({{"used_bytes", 0}, {"capacity_bytes", 0}}));
  CHECK(node["peers"][0] ==
        json({{"name", "decode"}, {"transport", "shm"}, {"path", "posix/memory"}, {"gb_per_s", 12.5}}));
  CHECK(node["counters"]["fabric_bytes"] == 123456);
  CHECK(run_on(gateway, {"status"}).out.find("storage-1  alive  pid 42  storage") != std::string::npos);
}

TEST_CASE("failed jobs, wrong use and no cluster have their own exit codes and one line each") {
  const running_gateway gateway;
  const auto unknown = run_on(gateway, {"ask", "who?", "--document", "nobody"});
  CHECK(unknown.code == exit_failed);
  CHECK(unknown.err == "weft: no document 'nobody'; `weft documents` lists them\n");
  const std::string id(32, '0');
  CHECK(run_on(gateway, {"drop", id}).err == "weft: no document " + id + "; `weft documents` lists them\n");
  CHECK(run_on(gateway, {"ask", "fail"}).code == exit_failed);

  CHECK(run_on(gateway, {"ask", ""}).code == exit_wrong_use);
  CHECK(run_on(gateway, {"ask"}).code == exit_wrong_use);
  CHECK(run_on(gateway, {"ask", "who?", "--max-tokens", "0"}).code == exit_wrong_use);
  CHECK(run_on(gateway, {"ask", "who?", "--judge", "kvzap_mlp"}).code == exit_wrong_use);
  CHECK(run_on(gateway, {"ask", "who?", "--threshold", "-6"}).code == exit_wrong_use);

  const auto address = gateway.server->address();
  gateway.server->stop();
  const auto gone = run_on(gateway, {"status", "--json"});
  CHECK(gone.code == exit_no_cluster);
  CHECK(gone.out.empty());
  CHECK(gone.err == "weft: no cluster answers at " + address +
                        " (Connection refused); start one or give the address of one that runs\n");
}

TEST_CASE("a cluster that takes too long is given up") {
  const running_gateway gateway;
  const auto late = run_on(gateway, {"ask", "hold", "--deadline", "0.05"});
  CHECK(late.code == exit_failed);
  CHECK(gateway.backend->wait_for_cancellation());
}
