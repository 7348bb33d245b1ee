#include "reach_cluster.hpp"

#include <cmath>

namespace weft::launcher {

std::shared_ptr<gateway_options> add_gateway_options(CLI::App& command) {
  auto options = std::make_shared<gateway_options>();
  command
      .add_option("--gateway", options->gateway,
                  "address of the gateway; else the cluster file in the working folder is asked")
      ->type_name("HOST:PORT")
      ->envname("WEFT_GATEWAY");
  command.add_option("--token-file", options->token_file, "file that holds the cluster's client secret")
      ->type_name("FILE")
      ->envname("WEFT_TOKEN_FILE");
  command.add_option("--deadline", options->deadline_s, "give up a request after so many seconds")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  return options;
}

int with_cluster(const gateway_options& options, const std::function<int(client::connection&)>& job) {
  const auto gateway = find_gateway(options, std::filesystem::current_path());
  if (!gateway)
    return gateway.error().code == errc::invalid_argument ? report_wrong_use(gateway.error().context)
                                                          : report(gateway.error());
  client::options how;
  how.token = gateway->token;
  how.name = "weft";
  auto cluster = client::connect(gateway->address, how);
  if (!cluster) return report(cluster.error());
  return job(*cluster);
}

client::call_options deadline_of(const gateway_options& options) {
  return {std::chrono::milliseconds(std::llround(options.deadline_s * 1000)), {}};
}

int report_call(client::connection& cluster, const error& e) {
  const int code = report(e);
  if (e.code == errc::unreachable && cluster.ping({std::chrono::seconds(1), {}})) return exit_failed;
  return code;
}

}  // namespace weft::launcher
