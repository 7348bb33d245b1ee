#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "document_names.hpp"
#include "json_of.hpp"
#include "reach_cluster.hpp"

#include <iomanip>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace weft::launcher {
namespace {

struct ask_options {
  client::ask_request request;
  std::vector<std::string> documents;
  std::vector<std::string> texts;
  CLI::Option* document_option = nullptr;
  CLI::Option* text_option = nullptr;
  bool stats = false;
  std::shared_ptr<gateway_options> gateway;
};

void print_stats(const client::ask_result& answer) {
  std::cout << std::fixed << std::setprecision(1);
  for (const auto& t : answer.transfers)
    std::cout << "from " << t.holder << " by " << t.transport << " (" << t.path << "): " << t.bytes
              << " bytes\n";
  std::uint64_t moved = 0;
  for (const auto& t : answer.transfers)
    moved += t.bytes;
  if (moved < answer.full_bytes) std::cout << moved << " of " << answer.full_bytes << " bytes read\n";
  std::cout << "cache " << answer.cache_bytes << " bytes\n";
  std::cout << "prompt " << answer.prompt_tokens << " tokens, answer " << answer.tokens.size() << " tokens, "
            << answer.recomputed_rows << " rows recomputed, " << answer.misses << " misses\n"
            << "computed " << answer.computed_rows << " rows of the prompt, reused " << answer.reused_rows
            << " that an earlier question had computed\n"
            << "load " << answer.load_ms << " ms, rotate " << answer.rotate_ms << " ms, compute "
            << answer.compute_ms << " ms, first token after " << answer.ttft_ms << " ms, then "
            << answer.decode_tokens_per_s << " tokens/s" << std::endl;
  if (!answer.retrieved.empty()) {
    std::cout << "chose among " << answer.ranked_documents << " documents in " << answer.retrieve_ms << " ms";
    if (answer.unranked_documents > 0)
      std::cout << "; " << answer.unranked_documents
                << " more could not be ranked, ingest them again if that stays so";
    std::cout << '\n';
    for (const auto& d : answer.retrieved)
      std::cout << "  " << to_hex(d.id) << "  score " << d.score << "  " << d.name << '\n';
  }
  if (answer.judged_rows > 0)
    std::cout << "dropped " << answer.dropped_rows << " of " << answer.judged_rows
              << " rows of question and answer that were judged\n";
  if (const auto& s = answer.sparse)
    std::cout << "attended " << s->chosen_blocks << " of " << s->middle_blocks << " middle blocks, ranked by "
              << s->retrieval_nodes << " nodes, " << s->stale_rankings << " of " << s->rankings
              << " rankings stale\n"
              << s->blocks_moved << " blocks moved for decoding, " << s->late_fetches << " fetches late, "
              << s->blocks_lost << " blocks lost, " << s->cache_bytes << " bytes of KV cache" << std::endl;
}

// Whether each part of the prompt is a text: as they come on the command line.
std::vector<bool> order_of(const CLI::App& command, const ask_options& options) {
  std::vector<bool> is_text;
  for (const auto* option : command.parse_order())
    if (option == options.document_option || option == options.text_option)
      is_text.push_back(option == options.text_option);
  return is_text;
}

// Documents alone are a list of ids, as they are to clusters that know of no texts.
void place_parts(client::ask_request& request, std::vector<id128> documents, std::vector<std::string> texts,
                 const std::vector<bool>& is_text) {
  if (texts.empty()) {
    request.documents = std::move(documents);
    return;
  }
  auto document = documents.begin();
  auto text = texts.begin();
  for (const bool next_is_text : is_text)
    if (next_is_text)
      request.parts.emplace_back(std::move(*text++));
    else
      request.parts.emplace_back(*document++);
}

int ask(client::connection& cluster, const ask_options& options, const std::vector<bool>& is_text,
        const command_context& context) {
  const auto how = deadline_of(*options.gateway);
  const auto documents = find_documents(cluster, options.documents, how);
  if (!documents) return report_call(cluster, documents.error());
  auto request = options.request;
  place_parts(request, *documents, options.texts, is_text);

  client::token_callback stream;
  bool begun = false;
  if (!context.json)
    stream = [&](const client::token_piece& piece) {
      begun = true;
      std::cout << piece.text << std::flush;
    };
  const auto answer = cluster.ask(request, stream, how);
  if (begun) std::cout << std::endl;
  if (!answer) return report_call(cluster, answer.error());
  if (context.json)
    print_json(json_of(*answer));
  else if (options.stats)
    print_stats(*answer);
  return exit_done;
}

void add_request_options(CLI::App& command, ask_options& options) {
  auto& request = options.request;
  command.add_option("QUESTION", request.question, "what to ask")->required();
  options.document_option = command
                                .add_option("-d,--document", options.documents,
                                            "ids or names of documents, in the order of the prompt")
                                ->type_name("ID");
  options.text_option =
      command
          .add_option(
              "--text", options.texts,
              "text between the documents, where it stands among them on the command line; may be repeated")
          ->type_name("TEXT")
          ->allow_extra_args(false);
  command.add_option("--system", request.system, "text before the documents")->type_name("TEXT");
  command
      .add_option(
          "--stitch", request.stitch,
          "how documents become one prompt: none, link(K), epic(k), blend(r,layer), random(r,seed), full")
      ->type_name("POLICY");
  command
      .add_option("--retrieve", request.retrieve,
                  "name no document: the so many that fit the question best, of all in the pool")
      ->check(CLI::Range(1u, static_cast<unsigned>(schema::limits::documents)))
      ->type_name("N");
  command
      .add_option("--ratio", request.ratio,
                  "read only so much of the documents' rows, the most important ones: the next band above")
      ->check(CLI::Range(0.0, 1.0));
  command
      .add_option("--retrieval", request.retrieval,
                  "decode sparsely, blocks chosen by: kvstar, kvstar_ahead, quest, esa, full")
      ->type_name("POLICY");
  command
      .add_option("--sparse-ratio", request.sparse_ratio,
                  "part of the blocks that --retrieval chooses among that is attended (0.25)")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("R");
  command.add_option("--stride", request.stride, "decode steps of a period of --retrieval kvstar (8)")
      ->check(CLI::Range(1U, 1024U))
      ->type_name("R");
  command
      .add_option(
          "--scale", request.scale,
          "what products of --retrieval are divided by the root of: none, head_dim, kept_dim (head_dim for "
          "kvstar_ahead, else none)")
      ->type_name("S");
  auto* const judge =
      command
          .add_option("--judge", request.judge,
                      "judge the rows of question and answer, once they are not among the newest 128 tokens: "
                      "kvzap_linear, kvzap_mlp")
          ->type_name("POLICY");
  auto* const threshold =
      command
          .add_option("--threshold", request.threshold,
                      "rows to which --judge gives less go, in ln(kvzip_plus): -6 keeps most of what matters")
          ->type_name("T");
  judge->needs(threshold);
  threshold->needs(judge);
  command.add_option("--max-tokens", request.max_tokens, "end the answer after so many tokens")
      ->check(CLI::Range(1u, schema::limits::max_tokens))
      ->capture_default_str();
  command.add_option("--temperature", request.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 4000.0))
      ->capture_default_str();
  command.add_option("--top-p", request.top_p, "choose among tokens of this much probability together")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--seed", request.seed, "of the choice of tokens")->capture_default_str();
  command.add_flag("--stats", options.stats, "show where the blocks came from and how long everything took");
}

}  // namespace

void add_ask_command(CLI::App& app, command_context& context) {
  auto* command = add_command(app, "ask", "answer a question from documents of the pool",
                              "weft ask \"Who wrote the letter?\" --document notes.txt --stats", context);
  auto options = std::make_shared<ask_options>();
  add_request_options(*command, *options);
  options->gateway = add_gateway_options(*command);
  on_run(command, context, [options, command, &context] {
    if (options->request.question.empty()) return report_wrong_use("the question is empty; ask something");
    if (options->request.retrieve > 0 && !options->documents.empty())
      return report_wrong_use("--retrieve chooses among all documents; leave out --document, or --retrieve");
    if (options->request.retrieve > 0 && !options->texts.empty())
      return report_wrong_use(
          "documents that --retrieve chooses have no places that --text could stand between; name them with "
          "--document, or put the text into the question or --system");
    const auto is_text = order_of(*command, *options);
    // What CLI11 takes for a list, such as [a,b], is several documents under one option.
    if (is_text.size() != options->documents.size() + options->texts.size())
      return report_wrong_use("give each document by itself: --document A --document B");
    return with_cluster(*options->gateway, [&](client::connection& cluster) {
      return ask(cluster, *options, is_text, context);
    });
  });
}

}  // namespace weft::launcher
