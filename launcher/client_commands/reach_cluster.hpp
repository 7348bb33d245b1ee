// From a command's options to a connection, and from a failed call to the exit code.
#pragma once

#include <weft/client/client.hpp>
#include <weft/launcher/command.hpp>

#include "find_gateway.hpp"

#include <functional>
#include <memory>

namespace weft::launcher {

// Adds --gateway, --token-file and --deadline.
std::shared_ptr<gateway_options> add_gateway_options(CLI::App& command);

// Connects and runs `job`; what it returns is the exit code. Failures to reach the cluster are reported here.
int with_cluster(const gateway_options& options, const std::function<int(client::connection&)>& job);

client::call_options deadline_of(const gateway_options& options);

// Reports the error of a call. `unreachable` means the cluster only if the gateway itself is gone: a node
// that the gateway cannot reach is a failed job.
int report_call(client::connection& cluster, const error& e);

}  // namespace weft::launcher
