// Puts a text into a cluster's pool and asks about it: ask HOST:PORT FILE QUESTION
#include <weft/client/client.hpp>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

namespace {

int give_up(const weft::error& e) {
  std::cerr << weft::to_string(e) << "\n";
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return give_up({weft::errc::invalid_argument, "use: ask HOST:PORT FILE QUESTION"});
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});

  auto cluster = weft::client::connect(argv[1]);
  if (!cluster) return give_up(cluster.error());
  const auto document = cluster->ingest({argv[2], text, "", {}});
  if (!document) return give_up(document.error());

  weft::client::ask_request request;
  request.question = argv[3];
  request.documents = {document->id};
  const auto answer = cluster->ask(request, [](const auto& token) { std::cout << token.text << std::flush; });
  if (!answer) return give_up(answer.error());
  std::cout << "\n" << answer->tokens.size() << " tokens, the first after " << answer->ttft_ms << " ms\n";
}
