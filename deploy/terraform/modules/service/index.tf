# An app's index of vectors in Vertex AI, where its settings want one and name none. Each takes up to an hour to be made.

locals {
  index = { for name, index in { (var.name) = var.service.index } : name => index if index != null }
}

resource "google_vertex_ai_index" "index" {
  for_each            = local.index
  project             = var.project
  region              = var.region
  display_name        = each.value.name
  labels              = { (var.settings.index.label) = var.name }
  index_update_method = var.settings.index.update_method

  metadata {
    config {
      dimensions                  = each.value.dimensions
      approximate_neighbors_count = var.settings.index.approximate_neighbors
      distance_measure_type       = var.settings.index.distance
      shard_size                  = var.settings.index.shard

      algorithm_config {
        tree_ah_config {
          leaf_node_embedding_count    = var.settings.index.leaf_embeddings
          leaf_nodes_to_search_percent = var.settings.index.leaf_percent
        }
      }
    }
  }
}

resource "google_vertex_ai_index_endpoint" "index" {
  for_each                = local.index
  project                 = var.project
  region                  = var.region
  display_name            = each.value.name
  labels                  = { (var.settings.index.label) = var.name }
  public_endpoint_enabled = true
}

resource "google_vertex_ai_index_endpoint_deployed_index" "index" {
  for_each          = local.index
  region            = var.region
  index             = google_vertex_ai_index.index[each.key].id
  index_endpoint    = google_vertex_ai_index_endpoint.index[each.key].id
  deployed_index_id = each.value.deployed
  display_name      = each.value.name

  dedicated_resources {
    min_replica_count = var.settings.index.min_replicas
    max_replica_count = var.settings.index.max_replicas

    machine_spec {
      machine_type = var.settings.index.machine_type
    }
  }

  timeouts {
    create = "90m"
  }
}
