// The people of the chat, by id, each with a colour of their own: a hue in degrees.
const HUES = [295, 190, 45, 350]

export const hueOf = (index) => HUES[index % HUES.length]

export const byId = (list) => new Map(list.map((person, index) => [person.id, { ...person, hue: hueOf(index) }]))
