# The queue that brings an app its jobs, and what calls the app and its functions: at set times, and for new files.

locals {
  work      = var.service.work == null ? {} : { (var.name) = var.service.work }
  roles     = flatten([for work in values(local.work) : work.roles])
  schedules = flatten([for work in values(local.work) : work.schedules])
  uploads   = merge([for work in values(local.work) : work.uploads]...)
}

resource "google_service_account" "work" {
  for_each     = local.work
  project      = var.project
  account_id   = each.value.account
  display_name = each.value.title
}

resource "google_service_account_iam_member" "acts_as_work" {
  for_each           = local.work
  service_account_id = google_service_account.work[each.key].name
  role               = var.settings.account_user
  member             = google_service_account.service.member
}

resource "google_cloud_tasks_queue" "queue" {
  for_each = local.work
  project  = var.project
  location = var.region
  name     = each.value.queue

  retry_config {
    max_attempts = var.settings.queue.max_attempts
    min_backoff  = var.settings.queue.min_backoff
    max_backoff  = var.settings.queue.max_backoff
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.work
  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.queue[each.key].name
  role     = var.settings.enqueuer
  member   = google_service_account.service.member
}

resource "google_project_iam_member" "work" {
  for_each = { for held in local.roles : held.role => held }
  project  = var.project
  role     = each.value.role
  member   = google_service_account.work[var.name].member

  dynamic "condition" {
    for_each = each.value.condition[*]
    content {
      title      = condition.value.title
      expression = condition.value.expression
    }
  }
}

resource "google_cloud_scheduler_job" "schedule" {
  for_each         = { for schedule in local.schedules : schedule.name => schedule }
  project          = var.project
  region           = var.region
  name             = each.value.name
  schedule         = each.value.cron
  time_zone        = each.value.zone
  attempt_deadline = each.value.deadline

  dynamic "retry_config" {
    for_each = each.value.retries > 0 ? [each.value.retries] : []
    content {
      retry_count = retry_config.value
    }
  }

  http_target {
    uri         = replace("${each.value.url}${each.value.path}", "PROJECT_NUMBER", var.project_number)
    http_method = "POST"

    oidc_token {
      service_account_email = google_service_account.work[var.name].email
      audience              = replace(each.value.url, "PROJECT_NUMBER", var.project_number)
    }
  }
}

resource "google_pubsub_subscription" "uploads" {
  for_each                   = local.uploads
  project                    = var.project
  name                       = each.value.subscription
  topic                      = each.value.topic
  filter                     = each.value.filter
  ack_deadline_seconds       = var.settings.uploads.ack_seconds
  message_retention_duration = var.settings.uploads.retention

  push_config {
    push_endpoint = replace("${each.value.url}${each.value.path}", "PROJECT_NUMBER", var.project_number)

    oidc_token {
      service_account_email = google_service_account.work[var.name].email
      audience              = replace(each.value.url, "PROJECT_NUMBER", var.project_number)
    }
  }

  # Empty: it never expires.
  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = var.settings.uploads.min_backoff
    maximum_backoff = var.settings.uploads.max_backoff
  }
}
