// What can only be said of all nodes of a cluster file together.
#pragma once

#include <weft/actors/node_config.hpp>

#include "table_reader.hpp"

#include <vector>

namespace weft::launcher {

using node_list = std::vector<actors::node_config>;  // of a file: one at least

// Tells each node who is in its group, and who may hold the membership.
void introduce(node_list& nodes);

// Note what is wrong at `top`, the whole file's table, or at the first node's.
void check_roles_present(const node_list& nodes, table_reader& top);
void check_replicas(const node_list& nodes, const actors::node_config& common, table_reader& top);
void check_first_node_is_found(const node_list& nodes, table_reader& first);
void check_model_folder(const node_list& nodes, const std::filesystem::path& folder, table_reader& top);

}  // namespace weft::launcher
