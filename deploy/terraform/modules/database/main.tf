# A Firestore database with the indexes and TTL policies of firestore.indexes.json, and its backups. Rules are released
# by deploys.

resource "google_firestore_database" "this" {
  project                 = var.project
  name                    = var.name
  location_id             = var.region
  type                    = "FIRESTORE_NATIVE"
  delete_protection_state = "DELETE_PROTECTION_ENABLED"

  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_${var.database.point_in_time ? "ENABLED" : "DISABLED"}"
}

resource "google_firestore_backup_schedule" "daily" {
  for_each  = toset(var.database.backup_days > 0 ? ["daily"] : [])
  project   = var.project
  database  = google_firestore_database.this.name
  retention = "${var.database.backup_days * 86400}s"
  daily_recurrence {}
}

resource "google_firestore_index" "this" {
  for_each    = { for index in var.database.indexes : jsonencode(index) => index }
  project     = var.project
  database    = google_firestore_database.this.name
  collection  = each.value.collection
  query_scope = each.value.scope

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path   = fields.value.path
      order        = fields.value.order
      array_config = fields.value.array

      dynamic "vector_config" {
        for_each = fields.value.dimension[*]
        content {
          dimension = vector_config.value
          flat {}
        }
      }
    }
  }
}

resource "google_firestore_field" "this" {
  for_each   = { for override in var.database.overrides : "${override.collection} ${override.field}" => override }
  project    = var.project
  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  # Empty: the field has no index.
  index_config {}

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []
    content {}
  }
}
