variable "name" {
  description = "The service's name; an app's is its id."
  type        = string
}

variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Region of its queue and its Scheduler job."
  type        = string
}

variable "project_number" {
  description = "The project's number, which addresses of Cloud Run have."
  type        = string
}

variable "service" {
  description = "As one of the root's variable services."
  type = object({
    title   = string
    account = string
    roles = list(object({
      role      = string
      condition = optional(object({ title = string, expression = string }))
    }))
    secrets = map(string)
    index   = optional(object({ name = string, deployed = string, dimensions = number }))
    work = optional(object({
      queue   = string
      account = string
      title   = string
      roles = list(object({
        role      = string
        condition = optional(object({ title = string, expression = string }))
      }))
      schedules = list(object({
        name     = string
        cron     = string
        zone     = optional(string)
        retries  = number
        url      = string
        path     = string
        deadline = string
      }))
      uploads = map(object({ topic = string, subscription = string, filter = string, url = string, path = string }))
    }))
  })
}

variable "settings" {
  description = "As the root's variable of this name."
  type = object({
    queue   = object({ max_attempts = number, min_backoff = string, max_backoff = string })
    uploads = object({ ack_seconds = number, retention = string, min_backoff = string, max_backoff = string })
    index = object({
      label                 = string
      update_method         = string
      distance              = string
      shard                 = string
      approximate_neighbors = number
      leaf_embeddings       = number
      leaf_percent          = number
      machine_type          = string
      min_replicas          = number
      max_replicas          = number
    })
    secret_reader = string
    enqueuer      = string
    account_user  = string
  })
}
