// Elements from text. Nothing here, or anywhere in this page, reads markup: what people write stays text.

/** `h('p', {class: 'x', onclick: f}, 'text', element)`; children that are null or false are left out. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (typeof value === 'boolean' && !name.startsWith('data-')) element.toggleAttribute(name, value)
    else if (value != null) element.setAttribute(name, value)
  }
  element.append(...children.filter((child) => child != null && child !== false))
  return element
}

export const find = (selector) => document.querySelector(selector)

/** One of the drawings that index.html carries as `<template id="icon-…">`. */
export const icon = (name) => find(`#icon-${name}`).content.firstElementChild.cloneNode(true)

export function avatar(person, status) {
  const element = h('span', { class: 'avatar', 'data-status': status, 'aria-hidden': 'true' }, person.name[0])
  element.style.setProperty('--hue', person.hue)
  return element
}
