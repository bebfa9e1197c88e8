data "google_project" "this" {
  project_id = var.project.id
}

resource "google_project_service" "api" {
  for_each           = toset(var.project.apis)
  project            = var.project.id
  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project.id
  location      = var.project.region
  repository_id = var.project.repository
  format        = "DOCKER"
  depends_on    = [google_project_service.api]
}

resource "google_service_account" "builder" {
  project      = var.project.id
  account_id   = var.project.builder.account
  display_name = var.project.builder.title
  depends_on   = [google_project_service.api]
}

resource "google_project_iam_member" "builder" {
  for_each = { for held in var.project.builder.roles : held.role => held }
  project  = var.project.id
  role     = each.value.role
  member   = google_service_account.builder.member

  dynamic "condition" {
    for_each = each.value.condition[*]
    content {
      title      = condition.value.title
      expression = condition.value.expression
    }
  }
}

module "database" {
  for_each   = var.project.databases
  source     = "../database"
  project    = var.project.id
  region     = var.project.region
  name       = each.key
  database   = each.value
  depends_on = [google_project_service.api]
}

# The topics that buckets tell of their files, and Cloud Storage's own account, which asking for it makes.

data "google_storage_project_service_account" "storage" {
  for_each   = toset(var.project.topics)
  project    = var.project.id
  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic" "uploads" {
  for_each   = toset(var.project.topics)
  project    = var.project.id
  name       = each.value
  depends_on = [google_project_service.api]
}

resource "google_pubsub_topic_iam_member" "storage" {
  for_each = toset(var.project.topics)
  project  = var.project.id
  topic    = google_pubsub_topic.uploads[each.value].name
  role     = var.project.publisher
  member   = data.google_storage_project_service_account.storage[each.value].member
}

# The spending alert. Its amount is in the billing account's currency, as the API takes it where none is named.

resource "google_billing_budget" "alert" {
  for_each        = toset(var.billing_account == null || var.project.alert.amount == 0 ? [] : [var.billing_account])
  billing_account = each.value
  display_name    = var.project.alert.name
  depends_on      = [google_project_service.api]

  budget_filter {
    projects        = ["projects/${data.google_project.this.number}"]
    calendar_period = "MONTH"
  }

  amount {
    specified_amount {
      units = tostring(var.project.alert.amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = var.project.alert.thresholds
    content {
      threshold_percent = threshold_rules.value
      spend_basis       = "CURRENT_SPEND"
    }
  }

  all_updates_rule {
    enable_project_level_recipients = true
  }
}
