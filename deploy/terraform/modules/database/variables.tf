variable "project" {
  description = "Id of the project."
  type        = string
}

variable "region" {
  description = "Where the database is; it cannot be moved."
  type        = string
}

variable "name" {
  description = "\"(default)\", or the id of the app that has it to itself."
  type        = string
}

variable "database" {
  description = "Its backups, its indexes, and fields that have none or a TTL policy."
  type = object({
    point_in_time = bool
    backup_days   = number
    indexes = list(object({
      collection = string
      scope      = string
      fields = list(object({
        path      = string
        order     = optional(string)
        array     = optional(string)
        dimension = optional(number)
      }))
    }))
    overrides = list(object({ collection = string, field = string, ttl = bool }))
  })
}
