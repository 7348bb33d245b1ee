// One value of every struct, with nothing left at its default.
#pragma once

#include <weft/schema/manifest.hpp>
#include <weft/schema/rpc_types.hpp>

namespace weft::schema::testing {

manifest sample_manifest();
document_info sample_document();
ingest_request sample_ingest();
ask_request sample_question();
ask_request sample_mixed_question();
token_piece sample_token();
ask_result sample_answer();
block_layout sample_layout();
block_info sample_block();
cluster_status sample_status();

}  // namespace weft::schema::testing
